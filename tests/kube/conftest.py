"""A server that answers what a test scripts, byte for byte, so that every way to fail can be played."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from kube.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Step = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request, and the socket to answer on."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    async def answer(self, status: int, document: Any = None, **headers: str) -> None:
        content = json.dumps(document if document is not None else {}).encode()
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        self.writer.write(f"{head}{extra}\r\n".encode() + content)
        await self.writer.drain()

    async def begin(self) -> None:
        """Start a stream of chunks."""
        self.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await self.writer.drain()

    async def send(self, data: bytes | dict[str, Any]) -> None:
        content = data if isinstance(data, bytes) else json.dumps(data).encode() + b"\n"
        self.writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def cut(self) -> None:
        """Drop the connection as a dead network would."""
        self.writer.transport.abort()


@dataclass
class Scripted:
    """Answers each request with the next step of its script; the last step repeats."""

    steps: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Exchange] = field(default_factory=list)
    port: int = 0
    serving: set[asyncio.Task[Any]] = field(default_factory=set)

    def on(self, what: str, *steps: Step) -> None:
        """Script `METHOD /path`, or `WATCH /path` for a stream."""
        self.steps[what] = list(steps)

    def asked(self, what: str) -> list[Exchange]:
        return [exchange for exchange in self.requests if _what(exchange) == what]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                exchange = await _read(reader, writer)
                self.requests.append(exchange)
                steps = self.steps.get(_what(exchange)) or [not_found]
                step = steps.pop(0) if len(steps) > 1 else steps[0]
                await step(exchange)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def stop(self) -> None:
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)


def _what(exchange: Exchange) -> str:
    method = "WATCH" if exchange.params.get("watch") else exchange.method
    return f"{method} {exchange.path}"


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Exchange(method, parts.path, dict(parse_qsl(parts.query)), headers, body, writer)


async def not_found(exchange: Exchange) -> None:
    await exchange.answer(404, {"kind": "Status", "reason": "NotFound", "message": "no such thing"})


def says(status: int, document: Any = None, **headers: str) -> Step:
    """Return a step that answers so."""

    async def step(exchange: Exchange) -> None:
        await exchange.answer(status, document, **headers)

    return step


@contextlib.asynccontextmanager
async def playing(folder: Path, **options: Any) -> AsyncIterator[tuple[Scripted, Client]]:
    """A scripted server and a client of it."""
    script = Scripted()
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {"server": f"http://127.0.0.1:{script.port}"}}],
        "users": [{"name": "tests", "user": {"token": "first"}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    }  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    client = await Client.connect(path, user_agent="berth-tests", **options)
    try:
        yield script, client
    finally:
        await client.close()
        server.close()
        await script.stop()
        await server.wait_closed()


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[tuple[Scripted, Client]]]:
    return lambda **options: playing(tmp_path, **options)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries take hundredths of a second."""
    monkeypatch.setattr("kube.client.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("kube.client.LONGEST_PAUSE_S", 0.05)
