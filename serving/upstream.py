"""HTTP to the engine on loopback: one connection for each request, bytes passed on as they come.

A general client costs several times what the engine itself takes to send a token. All that is needed here is
HTTP/1.1 to one known server: the parser is httptools' (llhttp), the rest is a protocol of asyncio. One
connection for each request keeps the meaning of closing it simple: the engine frees the slot.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HIGH_WATER = 1024 * 1024
"""Bytes that wait for a slow client before the engine is no longer read."""


LEAVING_SECONDS = 60.0
"""To let go of a request whose reader left; the engine looks each second, and between two batches."""


class EngineGone(Exception):
    """The engine ended, or was ended, before its answer was complete."""


class Upstream:
    """The engine's address, and every exchange with it that is still open."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.open: set[Exchange] = set()
        self.activity = 0
        """Grows with every piece that the engine sends for a generation; the watchdog looks at it."""

    async def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        generation: bool = False,
        when_closed: Callable[[], None] | None = None,
    ) -> Exchange:
        """Send a request and return once the answer's head is there.

        Args:
            method: of HTTP.
            target: path and query.
            body: the request's.
            headers: those to send beside the usual ones.
            generation: whether it takes a slot of the engine.
            when_closed: called once the engine no longer works for the request, however it ends.

        Raises:
            EngineGone: nobody listens, or the connection broke before the head.
        """
        exchange = Exchange(self, generation, when_closed)
        try:
            await asyncio.get_running_loop().create_connection(lambda: exchange, self.host, self.port)
            exchange.send(method, target, body, headers)
            await exchange.head
        except OSError as problem:
            exchange.close()
            raise EngineGone("the engine does not listen") from problem
        except BaseException:
            exchange.leave()
            raise
        return exchange

    async def json(
        self,
        method: str,
        target: str,
        data: Any = None,
        *,
        generation: bool = False,
        when_closed: Callable[[], None] | None = None,
    ) -> tuple[int, Any]:
        """Exchange JSON; a body that is none comes back as text."""
        body = b"" if data is None else json.dumps(data).encode()
        headers = [(b"content-type", b"application/json")] if body else []
        exchange = await self.request(
            method, target, body, headers, generation=generation, when_closed=when_closed
        )
        try:
            content = await exchange.read()
        finally:
            exchange.leave()
        try:
            return exchange.status, json.loads(content)
        except ValueError:
            return exchange.status, content.decode(errors="replace")

    def waiting(self) -> int:
        """Return how many generations wait for the engine, and not for a slow client."""
        return sum(1 for exchange in self.open if exchange.generation and exchange.expecting)

    def fail(self, reason: str) -> None:
        """Break every open generation, each with this reason."""
        for exchange in list(self.open):
            if exchange.generation:
                exchange.fail(EngineGone(reason))


class Exchange(asyncio.Protocol):
    """One request and its answer. Callbacks named `on_…` are the parser's."""

    def __init__(
        self,
        upstream: Upstream,
        generation: bool = False,
        when_closed: Callable[[], None] | None = None,
    ) -> None:
        self.upstream = upstream
        self.generation = generation
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._problem: EngineGone | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._left: asyncio.TimerHandle | None = None
        self._when_closed = when_closed

    @property
    def expecting(self) -> bool:
        """Whether the engine owes a piece of this answer."""
        return not (self.complete or self._paused or self._problem)

    @property
    def done(self) -> bool:
        """Whether the whole body has been read."""
        return self.complete and not self._pieces

    def send(self, method: str, target: str, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the request; the connection ends with its answer."""
        lines = [f"{method} {target} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n".encode("ascii")]
        lines += [name + b": " + value + b"\r\n" for name, value in headers]
        if body or method not in ("GET", "HEAD"):
            lines.append(b"Content-Length: %d\r\n" % len(body))
        assert self._transport is not None
        self._transport.write(b"".join([*lines, b"\r\n", body]))

    async def chunk(self) -> bytes:
        """Return what has come of the body since the last call; empty at its end.

        Raises:
            EngineGone: the connection broke before the end. What came before it is returned first.
        """
        while not self._pieces:
            if self.complete:
                return b""
            if self._problem is not None:
                raise self._problem
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def read(self) -> bytes:
        """Return the whole body."""
        pieces = []
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """End the exchange at once, whatever the engine still does for it."""
        self.upstream.open.discard(self)
        if self._left is not None:
            self._left.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not self._closed and self._when_closed is not None:
            self._when_closed()
        self._closed = True

    def leave(self) -> None:
        """Read no more, and end the exchange when the engine has let go of it.

        It looks once a second whether the reader is still there, and until then a slot works for nobody. If
        the slot counted as free at once, requests of clients that left would pile up in the engine's own
        queue, in front of those whose clients wait and whatever key they have.
        """
        if self._closed or self._left is not None:
            return
        if not self.generation or self.complete or self._transport is None or self._transport.is_closing():
            self.close()
            return
        self._left = asyncio.get_running_loop().call_later(LEAVING_SECONDS, self.close)
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._transport.write_eof()

    def fail(self, problem: EngineGone) -> None:
        """Break the exchange off for a reason that its reader shall know."""
        if self.complete or self._problem is not None:
            return
        self._problem = problem
        self.close()
        if not self.head.done():
            self.head.set_exception(problem)
            self.head.exception()  # its reader may have left
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.upstream.open.add(self)

    def data_received(self, data: bytes) -> None:
        if self.generation:
            self.upstream.activity += 1
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as problem:
            self.fail(EngineGone(f"the engine's answer is no HTTP: {problem}"))
            return
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.upstream.open.discard(self)
        self.fail(EngineGone("the engine ended before its answer was complete"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if not self.head.done():
            self.head.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self._left is not None:
            return
        self._pieces.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self.complete = True
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
