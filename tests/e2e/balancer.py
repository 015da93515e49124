"""A Service in front of programs of this machine, as kube-proxy makes one.

New connections go in turn to whatever answered its readiness probe last; connections that are open stay where
they are. Nobody ready means that a connection is refused. It knows nothing of what passes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

PROBE_SECONDS = 0.1
_BLOCK = 2**16


@dataclass(frozen=True)
class Backend:
    """A program: where it serves, and where it says whether it wants to."""

    name: str
    port: int
    plain: int


class Balancer:
    """Listens on a port of its own, in a thread of its own, while it is entered."""

    def __init__(self) -> None:
        self.port = 0
        self.opened: Counter[str] = Counter()
        """Connections by the backend that got them."""
        self.refused = 0
        """Connections for which nobody was ready."""
        self._ready: dict[str, Backend] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="balancer")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._within(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._within(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, backend: Backend) -> None:
        """Take an endpoint in; it gets connections once it is ready."""

        async def begin() -> None:
            self._probes[backend.name] = asyncio.create_task(self._probe(backend))

        self._within(begin())

    def remove(self, name: str) -> None:
        """Forget an endpoint; what is open to it stays open."""

        async def end() -> None:
            self._probes.pop(name).cancel()
            self._ready.pop(name, None)

        self._within(end())

    @property
    def ready(self) -> frozenset[str]:
        """The endpoints that get connections now."""
        return frozenset(self._ready)

    def _within(self, job: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(job, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [*self._probes.values(), *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, backend: Backend) -> None:
        while True:
            if await _answers(backend.plain):
                self._ready[backend.name] = backend
            else:
                self._ready.pop(backend.name, None)
            await asyncio.sleep(PROBE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # an end of the connection like any other
        finally:
            writer.close()
            self._open.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        choices = [self._ready[name] for name in sorted(self._ready)]
        if not choices:
            self.refused += 1
            return
        self._turn += 1
        chosen = choices[self._turn % len(choices)]
        self.opened[chosen.name] += 1
        inner, outer = await asyncio.open_connection("127.0.0.1", chosen.port)
        try:
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        finally:
            outer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends, and then end the other's half."""
    while block := await source.read(_BLOCK):
        target.write(block)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()
    else:
        target.close()


async def _answers(port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False
