"""The stamp beside a file: its sha256 and what the file looked like when that was computed.

Hashing 40 GB takes a minute, so it is done once. A stamp counts as long as size, time of change and inode are
those of the file. It guards against mistakes and broken copies, not against who may write to the volume.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

VERSION = 1


class State(StrEnum):
    """What is known of a file's content; the words are those of conditions and metrics."""

    PINNED = "Pinned"
    """Its sha256 is the one that the preset, the Workspace or the lock names."""
    UNPINNED = "Unpinned"
    """Nobody named a sha256, so nothing was verified."""
    WRONG = "Wrong"
    """Its sha256 is another one than was named: it is never served."""


@dataclass(frozen=True)
class Stamp:
    """One file's record. `source` is the repository and commit that it came from, where that is known."""

    state: State
    sha256: str
    size: int
    modified: int
    inode: int
    source: str | None = None


def path_of(file: Path) -> Path:
    """Return where a file's stamp stands."""
    return file.with_name(f"{file.name}.berth.json")


def read(file: Path) -> Stamp | None:
    """Return the stamp of a file as it is now; None where there is none or the file has changed since."""
    try:
        found = file.stat()
    except OSError:
        return None
    for place in (path_of(file), _scratch(file)):
        stamp = _parse(place)
        if stamp is not None and (stamp.size, stamp.modified, stamp.inode) == (
            found.st_size,
            found.st_mtime_ns,
            found.st_ino,
        ):
            return stamp
    return None


def write(
    file: Path, state: State, sha256: str, *, source: str | None = None, content: Path | None = None
) -> Stamp:
    """Stamp a file beside it, or in this container's scratch folder where the volume is read-only.

    Args:
        file: the file's name.
        state: what its content was compared with.
        sha256: of its content, in hexadecimal digits.
        source: where it came from.
        content: the file itself, if it will get its name only after this.
    """
    found = (content or file).stat()
    stamp = Stamp(state, sha256, found.st_size, found.st_mtime_ns, found.st_ino, source)
    try:
        replace(path_of(file), {"version": VERSION, **asdict(stamp)})
    except OSError:
        place = _scratch(file)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.parent.stat().st_uid == os.geteuid():
            replace(place, {"version": VERSION, **asdict(stamp)})
    return stamp


def replace(place: Path, data: dict[str, Any]) -> None:
    """Write a small JSON file whole or not at all."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(data, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def load(place: Path) -> dict[str, Any] | None:
    """Return a small JSON file's data, None where it is missing or broken."""
    try:
        data = json.loads(place.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _parse(place: Path) -> Stamp | None:
    data = load(place)
    if data is None or data.pop("version", None) != VERSION:
        return None
    try:
        return Stamp(**{**data, "state": State(data["state"])})
    except (TypeError, ValueError, KeyError):
        return None


def _scratch(file: Path) -> Path:
    """A place of this user's own, since the stamp is believed."""
    name = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"berth-stamps-{os.geteuid()}" / f"{name}.json"
