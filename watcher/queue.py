"""The work queue: every key once, never twice at a time, and failures ever more rarely.

The semantics are client-go's. A key that is added while it waits is not added again; one that is added while
it is worked on is worked on once more afterwards; a key that fails comes back after 5 ms, 10 ms, … 1000 s.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from berth.errors import BerthError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    # Seconds after which the key is wanted again, or None.
    Handler = Callable[["K"], Awaitable[float | None]]

K = TypeVar("K", bound="Hashable")
FIRST_DELAY_S = 0.005
LONGEST_DELAY_S = 1000.0

log = logging.getLogger(__name__)


class Queue(Generic[K]):
    """Keys that want work, in the order in which they came to want it."""

    def __init__(self, *, first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._order: deque[K] = deque()
        self._dirty: set[K] = set()
        self._working: set[K] = set()
        self._failures: dict[K, int] = {}
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys wait for a worker; those that wait for their time are not counted."""
        return len(self._order)

    @property
    def working(self) -> frozenset[K]:
        """The keys that are worked on now."""
        return frozenset(self._working)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a worker and nobody works."""
        return not self._dirty and not self._working

    def add(self, key: K) -> None:
        """Want work on a key, once, however often it is said before the work begins."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._working:
            self._order.append(key)
            self._changed.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Want work on a key later; of several times the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + seconds
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._numbers), key))
        self._changed.set()

    def failed(self, key: K, at_least_s: float = 0.0) -> float:
        """Want work on a key again after its back-off, and return the seconds until then."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(self._longest_s, self._first_s * 2.0 ** min(failures, 60))
        delay = max(at_least_s, backoff * random.uniform(0.8, 1.0))
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """Begin the back-off of a key anew: its work succeeded, or it is gone."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Return how often the key failed since it was last forgotten."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Wait for a key and take it; `done` must follow."""
        while True:
            wait_s = self._ripen()
            if self._order:
                key = self._order.popleft()
                self._dirty.discard(key)
                self._working.add(key)
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """Hand a key back; if it was added meanwhile it waits for the next worker."""
        self._working.discard(key)
        if key in self._dirty:
            self._order.append(key)
            self._changed.set()

    def _ripen(self) -> float | None:
        """Add what is due, and return the seconds until the next is; None if nothing is planned."""
        now = asyncio.get_running_loop().time()
        while self._later:
            due, _, key = self._later[0]
            if due > now:
                if self._due.get(key) == due:
                    return due - now
                heapq.heappop(self._later)
                continue
            heapq.heappop(self._later)
            if self._due.get(key) == due:
                # An earlier time replaced any other entry of this key.
                del self._due[key]
                self.add(key)
        return None


async def work(queue: Queue[K], handle: Handler[K], *, workers: int) -> None:
    """Work on keys until cancelled; a handler that fails costs its key a back-off, and nothing else."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_worker(queue, handle))


async def _worker(queue: Queue[K], handle: Handler[K]) -> None:
    while True:
        key = await queue.get()
        try:
            again_s = await handle(key)
        except Exception as error:
            # A server that says how long to wait is heard.
            delay = queue.failed(key, float(getattr(error, "retry_after", None) or 0.0))
            # What is no error of the family is a bug of ours, and its place is told.
            bug = None if isinstance(error, BerthError) else error
            log.warning("%s failed and is tried again in %.3f s: %s", key, delay, error, exc_info=bug)
        else:
            queue.forget(key)
            if again_s is not None:
                queue.add_after(key, again_s)
        finally:
            queue.done(key)
