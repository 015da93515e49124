"""One pod downloads while the others wait: a lease file that works on network file systems too.

The owner writes a number into the file that grows with every heartbeat. Clocks of several machines are never
compared: a waiter calls the owner dead when it has not seen the number change for a while by its own clock.
On one kernel a file lock tells sooner, since it ends with the process. A dead owner's file is taken over by
writing one's own name into it and, a moment later, finding it still there; the file is never renamed, so two
cannot both believe that they have it for longer than a heartbeat, and who has lost it stops writing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.weights.errors import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LENGTH = 512
"""Bytes of a record; always the same, so that no reader sees half of two."""


@dataclass(frozen=True)
class Timing:
    """Seconds. A lease is dead after `stale`, which has to be several heartbeats."""

    heartbeat: float = 10
    stale: float = 60
    settle: float = 2
    poll: float = 1


def _kernel() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


@dataclass
class Lease:
    """A lease that this process holds until `release`; `check` raises once another has taken it."""

    path: Path
    file: int
    timing: Timing
    owner: str
    locked: bool
    _beat: int = 0
    _lost: threading.Event = field(default_factory=threading.Event)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def check(self) -> None:
        """Make sure that the lease is still held.

        Raises:
            LeaseLost: another pod has it.
        """
        if self._lost.is_set():
            raise LeaseLost(f"{self.path.name}: another pod took the download over")

    def confirm(self) -> None:
        """Look at the file itself before a step that must not be done twice.

        Raises:
            LeaseLost: another pod has it.
        """
        if self._lost.is_set() or not self._mine():
            self._lost.set()
        self.check()

    def write(self) -> None:
        """Write the record into the file that was opened; a file that replaced it stays untouched."""
        self._beat += 1
        record = {
            "owner": self.owner,
            "kernel": _kernel(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "locked": self.locked,
            "beat": self._beat,
        }
        os.pwrite(self.file, json.dumps(record).encode().ljust(_LENGTH), 0)
        os.fsync(self.file)

    def start(self) -> None:
        """Begin with the heartbeat."""
        self._thread = threading.Thread(target=self._beats, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back; the next one to ask gets it at once."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            if self._mine():
                self.path.unlink()
        os.close(self.file)

    def _beats(self) -> None:
        last = time.monotonic()
        while not self._end.wait(self.timing.heartbeat):
            try:
                if not self._mine():
                    self._lost.set()
                    return
                self.write()
                last = time.monotonic()
            except OSError:
                # The server of the file system is away; whoever still sees it takes over after as long.
                if time.monotonic() - last > self.timing.stale:
                    self._lost.set()
                    return

    def _mine(self) -> bool:
        record = _read(self.path)
        return record is not None and record.get("owner") == self.owner


@contextlib.contextmanager
def held(
    path: Path, *, timing: Timing, done: Callable[[], bool], waiting: Callable[[str], None]
) -> Iterator[Lease | None]:
    """Hold the lease of this path, or get None because another has done the work meanwhile.

    Args:
        path: the lease file; its folder has to exist.
        timing: how patient.
        done: whether the work is done, asked before and while waiting.
        waiting: told now and then who is waited for.
    """
    lease = _acquire(path, timing, done, waiting)
    if lease is None:
        yield None
        return
    try:
        lease.start()
        yield lease
    finally:
        lease.release()


def _acquire(
    path: Path, timing: Timing, done: Callable[[], bool], waiting: Callable[[str], None]
) -> Lease | None:
    seen: tuple[bytes, float] = (b"", time.monotonic())
    told = float("-inf")
    while not done():
        lease = _create(path, timing)
        if lease is not None:
            return lease
        raw = _raw(path)
        now = time.monotonic()
        if raw is None:
            continue
        if raw != seen[0]:
            seen = (raw, now)
        lease = _take_over(path, timing, raw, now - seen[1] > timing.stale)
        if lease is not None:
            return lease
        if now - told > timing.stale / 2:
            told = now
            record = _parsed(raw) or {}
            waiting(str(record.get("host", "another pod")))
        time.sleep(timing.poll)
    return None


def _create(path: Path, timing: Timing) -> Lease | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o664)
    except FileExistsError:
        return None
    lease = Lease(path, file, timing, uuid.uuid4().hex, _lock(file))
    try:
        lease.write()
    except OSError:  # a full volume: an empty record would have the next pod wait until it is stale
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)
        raise
    return lease


def _take_over(path: Path, timing: Timing, raw: bytes, stale: bool) -> Lease | None:
    """Take a dead owner's lease: on this kernel it is dead when its lock is gone, elsewhere by silence."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    record = _parsed(raw) or {}
    locked = _lock(file)
    orphan = locked and record.get("locked") is True and record.get("kernel") == _kernel() != ""
    # The lock may have come just after its owner ended well: then the path is another file, or none.
    if not (orphan or stale) or _raw(path) != raw or not _same(file, path):
        os.close(file)
        return None
    lease = Lease(path, file, timing, uuid.uuid4().hex, locked)
    lease.write()
    time.sleep(timing.settle)
    if lease._mine() and _same(file, path):
        return lease
    os.close(file)
    return None


def _lock(file: int) -> bool:
    """Lock the open file if nobody has; some network file systems cannot."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _raw(path: Path) -> bytes | None:
    """The file's content; opened anew each time, since that is when a network file system looks again."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    raw = _raw(path)
    return None if raw is None else _parsed(raw)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(raw)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None
