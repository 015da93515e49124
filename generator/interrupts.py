"""Ctrl-C ends the program, whatever it is doing.

Python raises KeyboardInterrupt between any two steps, within an import's lock or a callback too. There it can
get lost and leave the lock behind. So the first one is remembered and a clock runs; a second one waits for
nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

EXIT_INTERRUPTED = 130
GRACE_SECONDS = 10.0
"""What it may take to undo what was begun."""
LOST_SECONDS = 0.5
"""What is left where Python has dropped the interruption, so that nothing is being undone."""

_seen = False


def arrange() -> None:
    """Take Ctrl-C over, unless whoever started the program has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _first)


def seen() -> bool:
    """Whether somebody pressed Ctrl-C."""
    return _seen


def leave() -> None:
    """End at once, without jsii's farewell to a Node that Ctrl-C has ended too."""
    with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
        print("interrupted", file=sys.__stderr__, flush=True)
    os._exit(EXIT_INTERRUPTED)


def _first(number: int, frame: FrameType | None) -> None:
    global _seen
    _seen = True
    signal.signal(signal.SIGINT, _last)
    # What jsii, Node and half-done callbacks now complain of is nobody's business.
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.unraisablehook = _dropped
    _end_after(GRACE_SECONDS)
    raise KeyboardInterrupt


def _dropped(said: sys.UnraisableHookArgs) -> None:
    if issubclass(said.exc_type, KeyboardInterrupt):
        _end_after(LOST_SECONDS)


def _end_after(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _last)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _last(number: int, frame: FrameType | None) -> None:
    leave()
