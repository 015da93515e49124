"""What the server asks before it serves a file: is it whole, and is it what was promised?"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.weights import files, stamps
from serving.weights.errors import MissingWeights
from serving.weights.stamps import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Progress = Callable[[int, int], None]

CHUNK = 4 * 2**20


@dataclass(frozen=True)
class Checked:
    """The verdict on a model's files; `reason` is a sentence for people."""

    state: State
    reason: str
    size: int
    """Bytes of all files."""
    sha256: str | None = None
    """Of the first file, where it is known."""


def check(
    path: Path, sha256: str | None = None, *, image: str | None = None, progress: Progress | None = None
) -> Checked:
    """Compare a model with its sha256; a stamped file is not read again.

    The sha256 is the first file's. The other parts of a split model count as pinned where a download has
    compared them and stamped them so.

    Args:
        path: the GGUF file, the first one of a split model; all its parts are looked at.
        sha256: the one that was promised; None where nobody knows one, and then nothing is hashed.
        image: the image that the files come from; a digest in its name was verified when it was pulled.
        progress: told how many bytes of how many have been hashed.

    Raises:
        MissingWeights: a file is not there or is no GGUF file.
    """
    parts = files.parts(path)
    sizes = [files.must_be_gguf(part) for part in parts]
    size = sum(sizes)
    stamp = stamps.read(path)
    pinned = image is not None and "@sha256:" in image
    if sha256 is None and pinned:
        return Checked(State.PINNED, f"{path.name} comes from {image}", size)
    if sha256 is None:
        known = stamp.sha256 if stamp else None
        return Checked(State.UNPINNED, f"no sha256 is known for {path.name}", size, known)
    wanted = sha256.lower()
    if stamp is None:
        digest = hash_file(path, progress)
        stamp = stamps.write(path, State.PINNED if digest == wanted else State.WRONG, digest)
    if stamp.sha256 != wanted:
        return Checked(State.WRONG, wrong(path.name, wanted, stamp.sha256), size, stamp.sha256)
    loose = [] if pinned else [part.name for part in parts[1:] if not _pinned(part)]
    if loose:
        reason = f"no sha256 is known for {', '.join(loose)}"
        return Checked(State.UNPINNED, reason, size, stamp.sha256)
    return Checked(State.PINNED, f"{path.name} is sha256:{wanted}", size, stamp.sha256)


def hash_file(path: Path, progress: Progress | None = None) -> str:
    """Return a file's sha256 in hexadecimal digits.

    Raises:
        MissingWeights: somebody was writing to it meanwhile.
    """
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while count := stream.readinto(buffer):
            digest.update(view[:count])
            done += count
            if progress is not None:
                progress(done, before.st_size)
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise MissingWeights(f"{path} is still being written")
    return digest.hexdigest()


def wrong(name: str, wanted: str, found: str) -> str:
    """Return the sentence about a wrong hash."""
    return f"{name} is not what was promised: its sha256 is {found}, and {wanted} was named; it is not served"


def _pinned(part: Path) -> bool:
    stamp = stamps.read(part)
    return stamp is not None and stamp.state is State.PINNED
