"""A model's files from the hub into a volume, once, whichever of many pods comes first."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serving.weights import checking, files, leases, stamps
from serving.weights.download import Download, Partial, Patience
from serving.weights.errors import LeaseLost, NoRoom
from serving.weights.hub import Passing
from serving.weights.leases import Timing
from serving.weights.progress import amount
from serving.weights.stamps import Stamp, State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.weights.hub import Found, Hub

SPARE = 16 * 2**20
"""Bytes that a volume keeps free beside the files, for stamps and the file system's own."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_UNLIKELY = 0.1
"""A file that differs by more than this share from the planned size is worth a line."""


@dataclass(frozen=True)
class Wanted:
    """One file of the repository, and the sha256 that it has to have where one is known."""

    name: str
    sha256: str | None = None


@dataclass(frozen=True)
class Order:
    """What a pod needs before it can serve. `size` is what the plan counted, in bytes, of all files."""

    wanted: tuple[Wanted, ...]
    folder: Path
    size: int


@dataclass
class Fetch:
    """Runs an order; `say` gets lines for the log."""

    hub: Hub
    order: Order
    say: Callable[[str], None]
    timing: Timing = field(default_factory=Timing)
    patience: Patience = field(default_factory=Patience)
    _found: dict[str, Found] = field(default_factory=dict)

    def run(self) -> list[Stamp]:
        """Return the files' stamps, all of them there and none of them wrong.

        Raises:
            WeightsError: with what to do about it.
        """
        missing = [wanted for wanted in self.order.wanted if self._there(wanted) is None]
        if missing:
            self._find(missing)
        return [self._one(wanted) for wanted in self.order.wanted]

    def _find(self, missing: list[Wanted]) -> None:
        """Ask the hub about every file before the first byte, so that a bad order fails in a second."""
        for wanted in missing:
            tries = 1
            while wanted.name not in self._found:
                try:
                    self._found[wanted.name] = self.hub.find(wanted.name)
                except Passing as error:
                    tries = self.patience.next(tries, error, wanted.name, self.say)
        sizes = [found.size for found in self._found.values()]
        if None not in sizes and len(sizes) == len(self.order.wanted):
            total = sum(size for size in sizes if size is not None)
            if abs(total - self.order.size) > self.order.size * _UNLIKELY:
                self.say(f"the files have {amount(total)}, and the plan counted {amount(self.order.size)}")

    def _one(self, wanted: Wanted) -> Stamp:
        target = files.below(self.order.folder, wanted.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f".{target.name}.lock")
        while True:
            stamp = self._there(wanted)
            if stamp is not None:
                self.say(f"{wanted.name}: {stamp.state}, sha256:{stamp.sha256}, {amount(stamp.size)}")
                return stamp
            try:
                self._hold(wanted, target, lock)
            except LeaseLost as error:
                self.say(str(error))

    def _hold(self, wanted: Wanted, target: Path, lock: Path) -> None:
        """Download this file, or wait until another pod has."""

        def waiting(owner: str) -> None:
            self.say(f"{wanted.name}: {owner} downloads it, {amount(Partial(target).size)} so far")

        def done() -> bool:
            return self._there(wanted) is not None

        with leases.held(lock, timing=self.timing, done=done, waiting=waiting) as lease:
            if lease is None:
                return
            if wanted.name not in self._found:
                self._find([wanted])
            if self._adopt(wanted, target):
                return
            self._room(target)
            self.say(f"{wanted.name}: downloading from {self.hub.repository} at {self.hub.revision}")
            Download(
                self.hub,
                self._found[wanted.name],
                target,
                wanted.sha256,
                lease=lease,
                say=self.say,
                patience=self.patience,
            ).run()

    def _there(self, wanted: Wanted) -> Stamp | None:
        """The stamp of a file that can be served as it is, without asking the hub."""
        stamp = stamps.read(files.below(self.order.folder, wanted.name))
        if stamp is None or stamp.state is State.WRONG:
            return None
        if wanted.sha256 is None and not self._same_source(stamp):
            return None
        return stamp if wanted.sha256 in (None, stamp.sha256) else None

    def _same_source(self, stamp: Stamp) -> bool:
        """Whether a file without a known sha256 is the one that is asked for.

        A branch that has moved on is no reason to load again: a restart alone must not change the model.
        """
        repository, _, commit = (stamp.source or "").partition("@")
        asked = self.hub.asked
        return repository == self.hub.repository and (commit == asked or _COMMIT.fullmatch(asked) is None)

    def _adopt(self, wanted: Wanted, target: Path) -> bool:
        """Stamp a file that somebody else put here, if it is the one; it is read once."""
        found = self._found[wanted.name]
        known = wanted.sha256 or found.sha256
        if not target.is_file() or (found.size is not None and target.stat().st_size != found.size):
            return False
        if known is None and found.size is None:
            return False
        self.say(f"{wanted.name}: a file of this name is here and is read")
        digest = checking.hash_file(target)
        if known is not None and digest != known:
            self.say(f"{wanted.name}: that file is another one, sha256:{digest}; it is replaced")
            return False
        state = State.UNPINNED if wanted.sha256 is None else State.PINNED
        stamps.write(target, state, digest, source=f"{self.hub.repository}@{self.hub.revision}")
        return True

    def _room(self, target: Path) -> None:
        """Look for room for what is still to come, before the first byte."""
        needed = SPARE
        for name, found in self._found.items():
            path = files.below(self.order.folder, name)
            if path == target or not path.is_file():
                needed += max(0, (found.size or 0) - Partial(path).size)
        free = shutil.disk_usage(target.parent).free
        if free < needed:
            raise NoRoom(
                f"{self.order.folder} has {amount(free)} free, and {amount(needed)} are needed: "
                "give the volume more, or the node a larger disk"
            )
