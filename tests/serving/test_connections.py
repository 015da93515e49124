"""What somebody without a key may do to the front's port: send no end of a head, dribble, hold on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from serving.connections import HEAD_BYTES, Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST = b"GET / HTTP/1.1\r\nhost: front\r\n"
ANSWERED = b"HTTP/1.1 200 OK\r\n"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body; of `/refuse` it wants none, and `/slow` takes its time."""
    body, more = b"", scope["path"] != "/refuse"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body")
    await asyncio.sleep(0.3 if scope["path"] == "/slow" else 0)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        _application, port=0, lifespan="off", ws="none", log_config=None, access_log=False, http=Connection
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


async def _talk(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces until somebody hangs up, and return all that comes back until then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b"(reset)"
    finally:
        writer.close()


def _run(*pieces: bytes, pause: float = 0.0) -> bytes:
    async def run() -> bytes:
        async with _port() as port:
            return await _talk(port, *pieces, pause=pause)

    return asyncio.run(run())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.1)
    monkeypatch.setattr(Connection, "idle_seconds", 0.2)


BIG = b"x" * 1024
ENDLESS = {
    "many headers": [REQUEST, *(b"h%d: %s\r\n" % (n, BIG) for n in range(600))],
    "one header": [REQUEST, b"h: ", *[BIG] * 600],
    "one address": [b"GET /", *[BIG] * 600],
    "empty lines before a request": [b"\r\n" * 512] * 600,
}


def test_who_sends_too_large_a_head_is_told_so() -> None:
    assert _run(REQUEST, b"h: ", b"x" * HEAD_BYTES).startswith(b"HTTP/1.1 431 ")


async def _sent_until_refused(pieces: list[bytes]) -> int:
    async with _port() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = 0
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if reader.at_eof():
                    break
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
                await asyncio.sleep(0)
        writer.close()
        return sent


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
def test_no_more_than_the_bound_is_taken(pieces: list[bytes]) -> None:
    sent = asyncio.run(_sent_until_refused([*pieces, *[b"y" * 1024] * 100_000]))
    assert HEAD_BYTES <= sent < 40 * HEAD_BYTES  # the kernel takes some, too


def test_a_head_just_within_the_bound_is_taken() -> None:
    header = b"h: " + b"x" * (HEAD_BYTES - 200) + b"\r\n"
    assert _run(REQUEST, header, b"connection: close\r\n\r\n").startswith(ANSWERED)


def test_trailers_without_an_end_are_cut_off() -> None:
    head = b"POST / HTTP/1.1\r\nhost: front\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    assert ANSWERED not in _run(head, *(b"t%d: %s\r\n" % (n, BIG) for n in range(600)), b"\r\n")


def test_a_large_body_in_small_chunks_is_no_large_head() -> None:
    head = b"POST / HTTP/1.1\r\nhost: front\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"1;extension=of-a-chunk\r\nx\r\n" * 100] * 200
    assert _run(head, *chunks, b"0\r\n\r\n").startswith(ANSWERED)


SLOW = {
    "says nothing": [],
    "sends half a head": [REQUEST],
    "sends a letter now and then": [REQUEST, *[b"x"] * 20],
    "sends empty lines now and then": [b"\r\n"] * 20,
}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("pieces", SLOW.values(), ids=SLOW)
def test_nobody_holds_a_connection_without_a_request(pieces: list[bytes]) -> None:
    assert _run(*pieces, pause=0.05) in (b"", b"(reset)")


@pytest.mark.usefixtures("hasty")
def test_nobody_holds_a_connection_by_the_body_of_an_answered_request() -> None:
    head = b"POST /refuse HTTP/1.1\r\nhost: front\r\ncontent-length: 100000\r\n\r\n"
    assert _run(head, *[b"x"] * 20, pause=0.05) in (b"(reset)", ANSWERED + b"content-length: 0\r\n\r\n")


@pytest.mark.usefixtures("hasty")
def test_an_answer_that_takes_longer_than_a_head_may_is_no_reason_to_hang_up() -> None:
    slow = REQUEST.replace(b"/", b"/slow", 1) + b"\r\n"
    assert _run(slow + REQUEST).count(b"200 OK") == 1  # the second request's head never ends


@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at once", "the body after its head"])
def test_an_offer_of_another_protocol_costs_no_body(pause: float) -> None:
    """As Java's HttpClient sends it."""
    head = b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 21\r\n"
    head += b"Host: front\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n\r\n"
    body = b'{"a": "\r\nUpgrade: b"}'
    last = b"GET / HTTP/1.1\r\nHost: front\r\nConnection: close\r\n\r\n"
    answer = _run(head, body, last, pause=pause) if pause else _run(head + body, last)
    assert answer.count(ANSWERED) == 2
    assert body in answer


def test_where_there_are_too_many_the_one_that_rests_longest_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "most", 3)

    async def run() -> None:
        async with _port() as port:
            slow = asyncio.create_task(
                _talk(port, REQUEST.replace(b"/", b"/slow", 1), b"connection: close\r\n\r\n")
            )
            await asyncio.sleep(0.05)
            held = []
            for _ in range(5):
                held.append(await asyncio.open_connection("127.0.0.1", port))
                await asyncio.sleep(0.01)
            assert (await _talk(port, REQUEST, b"connection: close\r\n\r\n")).startswith(ANSWERED)
            assert (await slow).startswith(ANSWERED)
            assert [reader.at_eof() or reader.exception() is not None for reader, _ in held] == [True] * 4 + [
                False
            ]
            for _, writer in held:
                writer.close()

    asyncio.run(run())


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_go() -> None:
    program = (
        "import resource; from serving.connections import connections_at_most as most; n = most(); "
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE), n)"
    )
    told = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -Sn 1024; ulimit -Hn 4096; exec "$@"', "sh", sys.executable, "-c", program],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert told == ["4096", "4096", "2048"]
