"""Room for large reviews: so many bytes are held at once, and whoever does not fit waits outside.

The body of a review that waits stays in its socket, so a crowd of the largest takes time and not memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from webhook.workers import Late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Room:
    """Lets reviews in by their order, as long as they fit."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free_bytes = size_bytes
        self._outside: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def held(self, size_bytes: int, until: float) -> AsyncIterator[None]:
        """Hold so much of the room; what is larger than all of it has the room for itself.

        Raises:
            Late: there was none until that moment of the monotonic clock.
        """
        taken = min(size_bytes, self._size_bytes)
        await self._enter(taken, until)
        try:
            yield
        finally:
            self._leave(taken)

    async def _enter(self, taken: int, until: float) -> None:
        if not self._outside and taken <= self._free_bytes:
            self._free_bytes -= taken
            return
        turn = asyncio.get_running_loop().create_future()
        self._outside.append((taken, turn))
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
                await turn
        except BaseException as error:
            if turn.cancelled():
                self._let_in()  # whoever stood behind may fit
            else:
                self._leave(taken)  # let in at the very moment
            if isinstance(error, TimeoutError):
                raise Late(503, "too many large reviews wait for an answer; try again") from None
            raise

    def _leave(self, taken: int) -> None:
        self._free_bytes += taken
        self._let_in()

    def _let_in(self) -> None:
        while self._outside:
            taken, turn = self._outside[0]
            if not turn.done():
                if taken > self._free_bytes:
                    return
                self._free_bytes -= taken
                turn.set_result(None)
            self._outside.popleft()
