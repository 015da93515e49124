"""One file: downloaded under another name, hashed as it passes, and renamed when it is whole and right.

A break costs nothing but the connection. A new start of the container goes on from what lies on the disk, and
reads that once to hash it, as long as the hub still means the same file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serving.weights import stamps
from serving.weights.checking import CHUNK, wrong
from serving.weights.errors import FULL, GaveUp, NoRoom, WrongHash
from serving.weights.hub import Passing, Restart
from serving.weights.progress import Progress, amount
from serving.weights.stamps import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from serving.weights.hub import Found, Hub
    from serving.weights.leases import Lease


@dataclass(frozen=True)
class Patience:
    """How often a download that gets no further is tried, and how many seconds lie between two tries."""

    tries: int = 8
    first_pause: float = 1
    longest_pause: float = 60
    progress: int = 2**20
    """Bytes that a try has to bring to count as getting further."""

    def pause(self, tries: int, asked: float | None) -> float:
        """Return the seconds before the next try: twice as long each time, or what the server asked for."""
        doubled = min(self.longest_pause, self.first_pause * 2.0 ** (tries - 1))
        return max(doubled, asked or 0.0)

    def next(self, tries: int, error: Passing, subject: str, say: Callable[[str], None]) -> int:
        """Wait before another try and return its number.

        Raises:
            GaveUp: there were enough.
        """
        if tries >= self.tries:
            raise GaveUp(f"{subject}: gave up after {tries} tries that got no further; the last one: {error}")
        seconds = self.pause(tries, error.pause)
        say(f"{subject}: {error}; try {tries + 1} of {self.tries} in {seconds:.0f} s")
        time.sleep(seconds)
        return tries + 1


class Partial:
    """The file while it is not whole, and beside it what the hub said it is."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.partial")
        self.note = target.with_name(f".{target.name}.partial.json")
        self.wrong = target.with_name(f".{target.name}.wrong.json")

    @property
    def size(self) -> int:
        """Bytes that are there, whoever's they are."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def begin(self, identity: dict[str, Any]) -> int:
        """Return how many bytes can be kept: none, unless the hub means the same file as before."""
        if stamps.load(self.note) != identity:
            self.path.unlink(missing_ok=True)
            stamps.replace(self.note, identity)
        size = self.size
        return size if identity["size"] is None or size <= identity["size"] else 0

    def clear(self) -> None:
        """Forget what was begun."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


class Download:
    """The way of one file from the hub to its final name."""

    def __init__(
        self,
        hub: Hub,
        found: Found,
        target: Path,
        sha256: str | None,
        *,
        lease: Lease,
        say: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self.hub, self.found, self.target, self.sha256 = hub, found, target, sha256
        self.lease, self.say, self.patience = lease, say, patience
        self.partial = Partial(target)
        self.digest = hashlib.sha256()
        self.offset = 0
        self.progress = Progress(target.name, found.size, say)

    def run(self) -> stamps.Stamp:
        """Download, compare, stamp and rename.

        Raises:
            WrongHash: the content is not what was promised; what came is removed.
            GaveUp: the hub failed too often; what came is kept for the next start.
            NoRoom: the volume is full.
            LeaseLost: another pod is at it.
        """
        self._known_to_be_wrong()
        try:
            keep = self.partial.begin(self.found.identity)
            with self.partial.path.open("r+b" if keep else "w+b", buffering=0) as file:
                self._rehash(file.fileno(), keep)
                self._fill(file.fileno())
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in FULL:
                raise NoRoom(f"{self.target.parent} is full: {self.progress.text(self.offset)}") from error
            raise
        return self._finish()

    def _rehash(self, file: int, keep: int) -> None:
        if keep:
            self.say(f"{self.target.name}: {amount(keep)} are here already and are read again")
        while self.offset < keep:
            chunk = os.pread(file, min(CHUNK, keep - self.offset), self.offset)
            if not chunk:
                break
            self.digest.update(chunk)
            self.offset += len(chunk)
            self.lease.check()
        self.progress.start(self.offset)

    def _fill(self, file: int) -> None:
        tries, furthest = 1, self.offset
        size = self.found.size
        while size is None or self.offset < size:
            try:
                self._pour(file)
                if size is None or self.offset >= size:
                    return
                raise Passing(f"the answer ended early, after {self.progress.text(self.offset)}")
            except Restart:
                error = Passing("the server cannot continue where the last answer broke off")
                self._from_the_beginning(file)
            except Passing as passing:
                error = passing
            if self.offset - furthest >= self.patience.progress:
                tries = 1
            furthest = max(furthest, self.offset)
            tries = self.patience.next(tries, error, self.target.name, self.say)

    def _pour(self, file: int) -> None:
        """Read the next piece from the network while the last one is hashed and written."""
        with (
            ThreadPoolExecutor(1) as writer,
            contextlib.closing(self.hub.stream(self.found.name, self.offset)) as pieces,
        ):
            written: Future[None] | None = None
            for piece in pieces:
                if written is not None:
                    written.result()
                written = writer.submit(self._take, file, piece)
            if written is not None:
                written.result()

    def _take(self, file: int, view: memoryview) -> None:
        self.lease.check()
        while view:
            count = os.pwrite(file, view, self.offset)
            self.digest.update(view[:count])
            self.offset += count
            view = view[count:]
        self.progress.at(self.offset)
        if self.found.size is not None and self.offset > self.found.size:
            self.partial.clear()
            raise GaveUp(
                f"{self.target.name}: more came than the {amount(self.found.size)} that the hub told"
            )

    def _from_the_beginning(self, file: int) -> None:
        os.ftruncate(file, 0)
        self.digest, self.offset = hashlib.sha256(), 0

    def _finish(self) -> stamps.Stamp:
        digest = self.digest.hexdigest()
        if self.sha256 is not None and digest != self.sha256:
            stamps.replace(
                self.partial.wrong, {"wanted": self.sha256, "found": digest, **self.found.identity}
            )
            self.partial.clear()
            raise WrongHash(wrong(self.target.name, self.sha256, digest))
        if self.found.sha256 is not None and digest != self.found.sha256:
            self.partial.clear()
            raise GaveUp(
                f"{self.target.name}: the transfer was broken: it came with another sha256 than the hub's"
            )
        self.lease.confirm()
        state = State.UNPINNED if self.sha256 is None else State.PINNED
        source = f"{self.hub.repository}@{self.found.commit or self.hub.revision}"
        # First the stamp, which names the inode, then the name: nothing ever stands there without its stamp.
        stamp = stamps.write(self.target, state, digest, source=source, content=self.partial.path)
        self.partial.path.replace(self.target)
        _sync_folder(self.target.parent)
        self.partial.clear()
        self.partial.wrong.unlink(missing_ok=True)
        return stamp

    def _known_to_be_wrong(self) -> None:
        """Refuse at once what is known to be wrong: no restart of the container loads it again."""
        if self.sha256 is None:
            return
        if self.found.sha256 is not None and self.found.sha256 != self.sha256:
            raise WrongHash(wrong(self.target.name, self.sha256, self.found.sha256))
        noted = stamps.load(self.partial.wrong) or {}
        digest = noted.pop("found", "")
        if noted == {"wanted": self.sha256, **self.found.identity} and self.found.etag is not None:
            raise WrongHash(wrong(self.target.name, self.sha256, digest))


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    except OSError:
        # Some network file systems have no such thing for folders.
        pass
    finally:
        os.close(file)
