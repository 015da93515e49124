"""HTTP to the engine: bytes as they come, and an honest end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from serving import upstream as upstreams
from serving.upstream import HIGH_WATER, EngineGone, Upstream
from tests.serving.stubs import BREAK, CHUNKED, END, HANG, chunk, head, peer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("script", "body"),
    [
        pytest.param([head(b"Content-Length: 5"), b"hello"], b"hello", id="of a known length"),
        pytest.param([head(CHUNKED), chunk(b"hel"), chunk(b"lo"), END], b"hello", id="in chunks"),
        pytest.param([head(CHUNKED) + chunk(b"hello") + END], b"hello", id="all at once"),
        pytest.param([head(CHUNKED), b"5", b"\r\nhe", b"llo\r", b"\n0\r\n", b"\r\n"], b"hello", id="in bits"),
        pytest.param([head(b"Content-Length: 0")], b"", id="empty"),
    ],
)
def test_a_body_arrives_whole(script: list[bytes], body: bytes) -> None:
    async def scenario() -> tuple[int, bytes]:
        async with peer(*script) as (_, upstream):
            exchange = await upstream.request("GET", "/")
            found = await exchange.read()
            assert not upstream.open
            return exchange.status, found

    assert asyncio.run(scenario()) == (200, body)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([head(CHUNKED), chunk(b"hello"), BREAK], id="in the middle of chunks"),
        pytest.param([head(b"Content-Length: 50"), b"hello", BREAK], id="in the middle of a length"),
    ],
)
def test_an_engine_that_ends_in_the_middle_is_told_after_what_it_sent(script: list[bytes]) -> None:
    async def scenario() -> None:
        async with peer(*script) as (_, upstream):
            exchange = await upstream.request("GET", "/")
            with pytest.raises(EngineGone, match="before its answer was complete"):
                await exchange.read()
            assert not upstream.open

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([BREAK], id="it closes at once"),
        pytest.param([b"HTTP/1.1 200 OK\r\nContent-", BREAK], id="in its head"),
        pytest.param([b"not HTTP\r\n\r\n"], id="it speaks something else"),
    ],
)
def test_an_engine_without_a_head_is_gone(script: list[bytes]) -> None:
    async def scenario() -> None:
        async with peer(*script) as (_, upstream):
            with pytest.raises(EngineGone):
                await upstream.request("GET", "/")
            assert not upstream.open

    asyncio.run(scenario())


def test_nobody_who_listens_is_an_engine_that_is_gone() -> None:
    with pytest.raises(EngineGone, match="does not listen"):
        asyncio.run(Upstream("127.0.0.1", 1).request("GET", "/"))


def test_closing_is_seen_by_the_engine() -> None:
    async def scenario() -> None:
        async with peer(head(CHUNKED), chunk(b"hello"), HANG) as (engine, upstream):
            exchange = await upstream.request("POST", "/", b"{}", generation=True)
            assert await exchange.chunk() == b"hello"
            assert upstream.waiting() == 1
            exchange.close()
            await asyncio.wait_for(engine.left.wait(), 5)
            assert upstream.waiting() == 0

    asyncio.run(scenario())


def test_a_request_that_is_cancelled_before_its_answer_is_closed() -> None:
    async def scenario() -> None:
        async with peer(HANG) as (engine, upstream):
            task = asyncio.create_task(upstream.request("POST", "/", b"{}", generation=True))
            while not upstream.open:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait_for(engine.left.wait(), 5)
            await until(lambda: not upstream.open)

    asyncio.run(scenario())


def test_all_generations_can_be_broken_off_with_one_reason() -> None:
    async def scenario() -> None:
        async with peer(head(CHUNKED), chunk(b"hello"), HANG) as (_, upstream):
            exchange = await upstream.request("POST", "/", b"{}", generation=True)
            other = await upstream.request("GET", "/metrics")
            upstream.fail("it hangs")
            assert await exchange.chunk() == b"hello"
            with pytest.raises(EngineGone, match="it hangs"):
                await exchange.chunk()
            assert await other.chunk() == b"hello"
            other.close()

    asyncio.run(scenario())


def test_a_slow_reader_slows_the_engine_and_loses_nothing() -> None:
    async def scenario() -> None:
        piece = chunk(b"x" * 65536)
        async with peer(head(CHUNKED), *[piece] * 256, END) as (_, upstream):
            exchange = await upstream.request("POST", "/", b"{}", generation=True)
            await asyncio.sleep(0.2)
            assert not exchange.complete
            assert upstream.waiting() == 0, "the engine owes nothing while its reader is slow"
            total = 0
            largest = 0
            while found := await exchange.chunk():
                total += len(found)
                largest = max(largest, len(found))
            assert total == 256 * 65536
            assert largest <= HIGH_WATER + 2**20

    asyncio.run(scenario())


def test_the_slot_is_free_when_the_engine_is_done_however_slow_the_reader_is() -> None:
    async def scenario() -> None:
        async with peer(head(CHUNKED), chunk(b"hello"), END) as (_, upstream):
            ended = asyncio.Event()
            exchange = await upstream.request("POST", "/", b"{}", generation=True, when_closed=ended.set)
            await asyncio.wait_for(ended.wait(), 5)
            assert await exchange.read() == b"hello"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([HANG], id="before the answer's head"),
        pytest.param([head(CHUNKED), chunk(b"hello"), HANG], id="in the middle of it"),
    ],
)
def test_a_slot_counts_as_free_only_when_the_engine_has_let_go(script: list[bytes]) -> None:
    async def scenario() -> None:
        async with peer(*script) as (engine, upstream):
            engine.looks_after = 0.2
            ended = asyncio.Event()
            asked = upstream.request("POST", "/", b"{}", generation=True, when_closed=ended.set)
            task = asyncio.create_task(asked)
            await until(lambda: bool(engine.requests))
            await asyncio.sleep(0.01)
            if task.done():
                task.result().leave()
            else:
                task.cancel()
            await asyncio.sleep(0.05)
            assert not ended.is_set()
            assert len(upstream.open) == 1
            await asyncio.wait_for(ended.wait(), 5)
            assert not upstream.open

    asyncio.run(scenario())


def test_an_engine_that_never_lets_go_is_left_alone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams, "LEAVING_SECONDS", 0.1)

    async def scenario() -> None:
        async with peer(head(CHUNKED), HANG) as (engine, upstream):
            engine.looks_after = 60
            ended = asyncio.Event()
            exchange = await upstream.request("POST", "/", b"{}", generation=True, when_closed=ended.set)
            exchange.leave()
            exchange.leave()
            await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(scenario())


def test_what_an_engine_still_says_to_nobody_is_dropped() -> None:
    async def scenario() -> None:
        piece = chunk(b"x" * 65536)
        async with peer(head(CHUNKED), *[piece] * 64, END) as (_, upstream):
            ended = asyncio.Event()
            exchange = await upstream.request("POST", "/", b"{}", generation=True, when_closed=ended.set)
            exchange.leave()
            await asyncio.wait_for(ended.wait(), 5)
            assert exchange._size == 0

    asyncio.run(scenario())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


def test_json_comes_back_as_data_and_the_rest_as_text() -> None:
    async def scenario() -> None:
        async with peer(head(b"Content-Length: 7"), b'{"a":1}') as (engine, upstream):
            assert await upstream.json("POST", "/x", {"b": 2}) == (200, {"a": 1})
            assert engine.requests[0].startswith(b"POST /x HTTP/1.1\r\n")
            assert engine.requests[0].endswith(b'\r\n\r\n{"b": 2}')
        async with peer(head(b"Content-Length: 3"), b"a 1") as (_, upstream):
            assert await upstream.json("GET", "/metrics") == (200, "a 1")

    asyncio.run(scenario())
