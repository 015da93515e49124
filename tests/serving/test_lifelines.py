"""Lifelines to what is no worker, or a slow client: spoken to directly."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from serving import group, workers
from serving.group import Group
from serving.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GOOD = b'{"instance": "a1", "ready": true, "ending": false}\n'


@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"{}\n", id="an empty object"),
        pytest.param(b"[]\n", id="a list"),
        pytest.param(b'"ready"\n', id="a text"),
        pytest.param(b"<html>\n", id="a page"),
        pytest.param(b"\xff\xfe\n", id="no text"),
        pytest.param(b"x" * 100_000, id="a line without end"),
    ],
)
def test_another_program_at_a_workers_address_is_waited_out(
    rubbish: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "RETRY_SECONDS", 0.02)
    beats = [rubbish, GOOD]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + (beats.pop(0) if beats else GOOD))
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            await reader.read()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Group(["127.0.0.1:1"], server.sockets[0].getsockname()[1]) as found:
            async with asyncio.timeout(5):
                await found.ready()
            assert found.missing == []

    asyncio.run(scenario())


def test_who_sends_a_header_now_and_then_holds_no_workers_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_REQUEST_SECONDS", 0.2)

    async def scenario() -> None:
        worker = Worker(["ggml-rpc-server"])
        server = await asyncio.start_server(worker._answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            ended = asyncio.create_task(reader.read())
            writer.write(b"GET /healthz HTTP/1.1\r\n")
            for _ in range(40):
                if ended.done():
                    break
                writer.write(b"a: b\r\n")
                await asyncio.wait({ended}, timeout=0.05)
            assert ended.done()
            writer.close()

    asyncio.run(scenario())
