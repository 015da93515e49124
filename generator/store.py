"""Writing a rendered folder: whole or not at all, and never a file that is not berth's.

A new folder is built beside the old one and the two change places in one step, so that a crash leaves each
Workspace's folder either as it was or as it should be. Files that somebody else put there go along.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from berth.errors import BerthError
from generator import exchange, lockfile
from generator.files import named
from generator.lockfile import Lock, Owned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

STAGE = ".berth-stage"
"""Built files and, after a crash, the leftovers; hidden, so that nothing reads it as manifests."""


class ForeignFileError(BerthError):
    """A file that berth did not write stands where it has to write."""


@dataclass(frozen=True)
class Update:
    """How an output folder is to change. Folders that are in `lock` and not in `folders` stay as they are."""

    lock: Lock
    folders: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


class BusyError(BerthError):
    """Another render is writing to the same folder."""


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other renders away from a folder; one that is not there yet is nobody's.

    Raises:
        BusyError: another render has it.
    """
    if not out.is_dir():
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another render is writing to {out}; wait for it") from None
        except OSError as error:
            # Some network file systems know no locks; then two renders at once are the user's to avoid.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EBADF):
                raise
        yield
    finally:
        os.close(handle)


def edited(out: Path, lock: Lock) -> Iterator[str]:
    """Yield the owned files that are missing or have other content than berth wrote."""
    for folder, name, digest in _owned(lock):
        path = f"{folder}/{name}" if folder else name
        try:
            content = (out / path).read_bytes()
        except OSError:
            yield path
            continue
        if lockfile.sha256(content) != digest:
            yield path


def recover(out: Path) -> Lock | None:
    """Clear away what a crash left behind; return what that run was about to own.

    Its files may stand in the folder already, so they count as berth's.
    """
    stage = out / STAGE
    if not stage.is_dir():
        return None
    for parked in stage.glob("*.old"):
        place = out / parked.name.removesuffix(".old")
        if not place.exists():
            parked.rename(place)
    pending = None
    with contextlib.suppress(lockfile.InvalidLockError):
        pending = lockfile.load_file(stage / lockfile.NAME)
    shutil.rmtree(stage)
    return pending


def foreign(folder: Path, owned: Sequence[str] | frozenset[str] | Mapping[str, str]) -> list[str]:
    """Return what else lies in a folder."""
    try:
        return sorted(name for name in os.listdir(folder) if name not in owned)  # noqa: PTH208  names only
    except FileNotFoundError:
        return []


def conflicts(out: Path, update: Update, old: Lock, pending: Lock | None) -> list[str]:
    """Return the files that would have to be overwritten and are not berth's; an equal one is no conflict."""
    found = []
    for folder, files in update.folders.items():
        if (out / folder).exists() and not (out / folder).is_dir():
            found.append(folder)
            continue
        owned = _names(folder, old, pending)
        for name, content in files.items():
            if name not in owned and _differs(out / folder / name, content):
                found.append(f"{folder}/{name}")
    return found


def apply(out: Path, update: Update, old: Lock, pending: Lock | None = None) -> None:
    """Bring the folder to the update's state.

    Raises:
        ForeignFileError: a file of somebody else's is in the way; nothing was written.
    """
    in_the_way = conflicts(out, update, old, pending)
    if in_the_way:
        where = ", ".join(str(out / path) for path in in_the_way[:3])
        raise ForeignFileError(f"berth did not write {where}, and would overwrite it; move it away first")
    out.mkdir(parents=True, exist_ok=True)
    stage = out / STAGE
    stage.mkdir()
    try:
        _build(out, stage, update, old, pending)
        _swap(out, stage, update, old, pending)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _build(out: Path, stage: Path, update: Update, old: Lock, pending: Lock | None) -> None:
    for folder, files in update.folders.items():
        new = stage / folder
        new.mkdir()
        for name, content in files.items():
            _write(f"{new}/{name}", content)
        owned = _names(folder, old, pending) | frozenset(files)
        for name in foreign(out / folder, owned):
            _link(out / folder / name, new / name)
    for name, content in update.files.items():
        _write(f"{stage}/{name}", content)
    _write(f"{stage}/{lockfile.NAME}", update.lock.dumps().encode())
    if not (out / lockfile.NAME).exists():
        # Marks the folder as output before anything in it could be taken for a spec.
        empty = Lock(update.lock.berth)
        _write(f"{out}/{lockfile.NAME}", empty.dumps().encode())


def _write(path: str, content: bytes) -> None:
    with named(path), open(path, "wb") as stream:  # noqa: PTH123  thousands of files
        stream.write(content)


def _swap(out: Path, stage: Path, update: Update, old: Lock, pending: Lock | None) -> None:
    """Put everything in place, and back again if that fails half-way."""
    undo = contextlib.ExitStack()
    try:
        for folder in update.folders:
            exchange.place(stage / folder, out / folder)
            undo.callback(exchange.take_back, stage / folder, out / folder)
        for folder in _gone(update.lock, old, pending):
            _remove(out, stage, folder, _names(folder, old, pending), undo)
        for name in update.files:
            (stage / name).replace(out / name)
        (stage / lockfile.NAME).replace(out / lockfile.NAME)
    except BaseException:
        undo.close()
        raise


def _gone(new: Lock, old: Lock, pending: Lock | None) -> list[str]:
    before = set(old.folders) | set(pending.folders if pending else ())
    return sorted(before - set(new.folders))


def _remove(out: Path, stage: Path, folder: str, owned: frozenset[str], undo: contextlib.ExitStack) -> None:
    """Take a folder away; where somebody else's files lie in it, only ours go."""
    place = out / folder
    if not place.is_dir():
        return
    new = stage / folder
    others = foreign(place, owned)
    if others:
        new.mkdir()
        for name in others:
            _link(place / name, new / name)
        exchange.place(new, place)
        undo.callback(exchange.take_back, new, place)
    else:
        place.rename(new)
        undo.callback(new.rename, place)


def _link(source: Path, target: Path) -> None:
    """Have a file or a folder of somebody else's in a second place, without a copy where that works."""
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        shutil.copystat(source, target)
        for entry in sorted(source.iterdir()):
            _link(entry, target / entry.name)
    else:
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copy2(source, target)


def _names(folder: str, *locks: Lock | None) -> frozenset[str]:
    nothing = Owned("", {})
    return frozenset(
        name for lock in locks if lock is not None for name in lock.folders.get(folder, nothing).files
    )


def _differs(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() != content
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _owned(lock: Lock) -> Iterator[tuple[str, str, str]]:
    yield from (("", name, digest) for name, digest in lock.files.items())
    for folder, owned in lock.folders.items():
        yield from ((folder, name, digest) for name, digest in owned.files.items())
