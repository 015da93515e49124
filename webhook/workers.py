"""Threads for what takes a while, so that it holds up nobody else, and the time that an answer may take.

An API server says with each review how long it waits. Whoever could not be answered by then is told so, a
little before: an answer that nobody reads any more would only hide that we are too slow.
"""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 2
"""Planning takes a core; more threads would only share it."""
LONGEST_SECONDS = 10.0
"""Kubernetes' own default, where the caller names no time."""
_SHARE = 0.9
"""Of the caller's time; the rest is for the way back."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m)")

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Late(Exception):
    """The time was over before there was an answer; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def deadline(timeout: str | None, now: float | None = None) -> float:
    """Return the moment, by the monotonic clock, at which an answer must be given.

    Args:
        timeout: what the caller waits, as Go writes durations: `5s`, `500ms`.
        now: the moment at which the review began to come.
    """
    found = _DURATION.fullmatch(timeout or "")
    seconds = float(found[1]) * _SECONDS[found[2]] if found else LONGEST_SECONDS
    return (time.monotonic() if now is None else now) + _SHARE * min(seconds, 30.0)


class Workers:
    """A few threads, and a queue in front of them that nobody waits in for longer than makes sense."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="judge")
        self._free = asyncio.Semaphore(threads)

    async def run(self, until: float, job: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Return what the job returns.

        Raises:
            Late: the time was over; a job that had begun goes on, and keeps its thread until it ends.
        """
        left = until - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                await self._free.acquire()
        except TimeoutError:
            raise Late(503, "too many reviews wait for an answer; try again") from None
        future = asyncio.get_running_loop().run_in_executor(self._pool, job, *arguments)
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
                return await asyncio.shield(future)
        except TimeoutError:
            raise Late(504, "the answer took longer than the API server waits; try again") from None

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._free.release()
        if not future.cancelled():
            future.exception()  # nobody may be left to hear of it
