"""Counts requests, so that a server that was told to stop knows when nobody calls any more."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOOK_SECONDS = 0.05


class Traffic:
    """What is being answered, and when the last request came."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.in_flight = 0
        self.draining = False
        """New requests are answered, each with the wish to close its connection."""
        self._clock = clock
        self._last = clock()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold this while a request is answered."""
        self.in_flight += 1
        self._last = self._clock()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._last = self._clock()

    @property
    def quiet_s(self) -> float:
        """Seconds since the last request was answered; 0 while one is inside."""
        return 0.0 if self.in_flight else self._clock() - self._last

    async def quiet(self, seconds: float, at_most: float, hurry: asyncio.Event) -> bool:
        """Wait until nobody called for so long, a bounded time; return whether it became quiet."""
        self._last = max(self._last, self._clock())
        deadline = self._clock() + at_most
        while self.in_flight or self.quiet_s < seconds:
            if self._clock() >= deadline or hurry.is_set():
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True
