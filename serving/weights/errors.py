"""What can go wrong with weights: texts for people, and one exit code for each kind.

The codes are those of sysexits.h, so that a pod's status tells a wrong hash from a full disk.

* WeightsError         anything below
  - MissingWeights     66: no file where one should be, an empty volume, or something that is no GGUF file
  - WrongHash          65: the content is not what its sha256 promised; it is never served
  - TooLarge           65: an adapter or projector is larger than was planned; it is never served
  - NoRoom             73: the volume is too small
  - NotAllowed         77: the hub wants a token that has access
  - GaveUp             69: the hub could not be reached, often enough
  - LeaseLost          75: another pod has taken over; the caller waits for it
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

TERMINATION_LOG = "/dev/termination-log"
"""Where Kubernetes reads why a container ended; the charts name this path."""
MOST_BYTES = 4096
"""Kubernetes keeps no more of a message."""

EXIT_WRONG_HASH = 65
FULL = frozenset([errno.ENOSPC, errno.EDQUOT])
"""What the kernel says of a volume without room, or of a quota that is used up."""


class WeightsError(Exception):
    """Something about the weights that a person has to know; its text stands alone."""

    exit_code = 1


class MissingWeights(WeightsError):
    """There is no file to serve."""

    exit_code = 66


class WrongHash(WeightsError):
    """The content is not what its sha256 promised."""

    exit_code = EXIT_WRONG_HASH


class TooLarge(WeightsError):
    """The file is larger than the one that memory was planned for."""

    exit_code = EXIT_WRONG_HASH


class NoRoom(WeightsError):
    """The volume is too small."""

    exit_code = 73


class NotAllowed(WeightsError):
    """The hub wants a token that has access."""

    exit_code = 77


class GaveUp(WeightsError):
    """The hub failed more often than is worth trying."""

    exit_code = 69


class LeaseLost(WeightsError):
    """Another pod has taken the download over, since this one seemed dead to it."""

    exit_code = 75


def say_why(text: str) -> None:
    """Tell why this container ends: on stderr, and where Kubernetes shows it in the pod's status."""
    print(f"error: {text}", file=sys.stderr, flush=True)
    place = Path(os.environ.get("BERTH_TERMINATION_LOG", TERMINATION_LOG))
    with contextlib.suppress(OSError):  # it lies on the node's disk, which may be what is full
        if place.exists() and os.access(place, os.W_OK):
            place.write_bytes(text.encode()[:MOST_BYTES])
