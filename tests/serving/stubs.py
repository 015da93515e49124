"""A peer that speaks bytes as it is told, for what a real engine does only by accident."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serving.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

BREAK = b"<break>"
"""In a script: end the connection in the middle."""
HANG = b"<hang>"
"""In a script: say nothing until the client leaves."""


@dataclass
class Peer:
    """Answers every request with the same script."""

    script: Sequence[bytes]
    requests: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closed its side before the script's end."""
    looks_after: float = 0
    """Seconds until that is noticed."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.answer(reader, writer))
        self.tasks.add(task)
        try:
            await asyncio.wait({task})
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        self.requests.append(head + await reader.readexactly(length))
        with contextlib.suppress(ConnectionError):
            for piece in self.script:
                if piece == BREAK:
                    break
                if piece == HANG:
                    await reader.read()
                    await asyncio.sleep(self.looks_after)
                    self.left.set()
                    break
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def peer(*script: bytes) -> AsyncIterator[tuple[Peer, Upstream]]:
    """Run a peer with this script."""
    found = Peer(script)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    async with server:
        yield found, Upstream("127.0.0.1", server.sockets[0].getsockname()[1])
        for task in found.tasks:
            task.cancel()
        await asyncio.sleep(0.005)  # closes what is still open before the loop ends


def head(*headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer's head."""
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", b""])


def chunk(data: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


END = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
EVENTS = b"Content-Type: text/event-stream"
