"""Who is served next: a bounded queue in front of the engine's slots, fair between API keys.

The engine would queue by itself, first come first served and without bound. Here a request waits until a
slot is free; the next one is of the key that has the fewest running, and of those the one that waited longest
for a turn. A full queue sends a newcomer away, unless another key fills it: then that key's newest leaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

_SMOOTHING = 0.2
_LONGEST_RETRY_SECONDS = 60.0


class FairQueue:
    """`slots` requests run at once and `limit` more wait; closed, nobody gets a turn."""

    def __init__(
        self,
        slots: int,
        limit: int,
        *,
        timeout: float | None = None,
        on_refusal: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.slots, self.limit, self.timeout = slots, limit, timeout
        self.is_open = True
        self.running = 0
        self.waiting = 0
        self._running: dict[str, int] = {}
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._last_turn: dict[str, int] = {}
        self._turns = 0
        self._mean_seconds = 1.0
        self._on_refusal = on_refusal

    async def enter(self, key: str) -> Turn:
        """Wait for a slot.

        Raises:
            Refusal: the queue is full (429), or no slot came in time (503).
        """
        if self.is_open and self.running < self.slots and not self.waiting:
            return self._take(key)
        if self.waiting >= self.limit and not self._displace(key):
            raise self._full()
        place = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(place)
        self.waiting += 1
        try:
            async with asyncio.timeout(self.timeout):
                await place
        except BaseException as problem:
            self._leave_queue(key, place)
            if isinstance(problem, TimeoutError):
                self._on_refusal("queue-timeout")
                text = f"no slot was free for {self.timeout:g} seconds"
                raise Refusal(503, text, retry_after=self.retry_after()) from None
            raise
        return Turn(self, key)

    def open(self) -> None:
        """Let those who wait take their turns."""
        self.is_open = True
        self._grant()

    def close(self) -> None:
        """Keep everybody waiting until the engine is back."""
        self.is_open = False

    def retry_after(self) -> float:
        """Return the seconds after which the queue has probably moved enough."""
        return min(self._mean_seconds * (self.waiting + 1) / self.slots, _LONGEST_RETRY_SECONDS)

    def finish(self, key: str, seconds: float) -> None:
        """Give a slot back after the time that it took; called by `Turn` alone."""
        self._mean_seconds += _SMOOTHING * (seconds - self._mean_seconds)
        self._release(key)

    def _release(self, key: str) -> None:
        self.running -= 1
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
            if key not in self._queues:
                self._last_turn.pop(key, None)
        self._grant()

    def _take(self, key: str) -> Turn:
        self._count(key)
        return Turn(self, key)

    def _count(self, key: str) -> None:
        self.running += 1
        self._running[key] = self._running.get(key, 0) + 1
        self._turns += 1
        self._last_turn[key] = self._turns

    def _grant(self) -> None:
        while self.is_open and self.running < self.slots and self._queues:
            key = min(
                self._queues, key=lambda name: (self._running.get(name, 0), self._last_turn.get(name, 0))
            )
            place = self._queues[key].popleft()
            self._forget_empty(key)
            self.waiting -= 1
            if not place.done():  # else its client left in this moment
                self._count(key)
                place.set_result(None)

    def _leave_queue(self, key: str, place: asyncio.Future[None]) -> None:
        if place in self._queues.get(key, ()):
            self._queues[key].remove(place)
            self._forget_empty(key)
            self.waiting -= 1
        elif place.done() and not place.cancelled() and place.exception() is None:
            self._release(key)  # its turn came in the same moment

    def _displace(self, key: str) -> bool:
        """Send the newest of the key that waits most away, if that key waits more than this one will."""
        largest = max(self._queues, key=lambda name: len(self._queues[name]), default=None)
        if largest is None or len(self._queues[largest]) <= len(self._queues.get(key, ())) + 1:
            return False
        place = self._queues[largest].pop()
        self._forget_empty(largest)
        self.waiting -= 1
        if not place.done():
            place.set_exception(self._full())
        return True

    def _forget_empty(self, key: str) -> None:
        if not self._queues[key]:
            del self._queues[key]

    def _full(self) -> Refusal:
        self._on_refusal("queue-full")
        text = f"all {self.slots} slots are busy and {self.limit} requests wait already"
        return Refusal(429, text, code="queue_full", retry_after=self.retry_after())


class Turn:
    """A slot in use; given back once, however often that is asked."""

    def __init__(self, queue: FairQueue, key: str) -> None:
        self._queue, self._key = queue, key
        self._since = monotonic()
        self._done = False

    def end(self) -> None:
        """Give the slot back."""
        if not self._done:
            self._done = True
            self._queue.finish(self._key, monotonic() - self._since)
