"""The local copy is right again after every fault, and a fault is never answered with a storm."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from kube.reflector import Change, Reflector
from kube.resources import NODES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LIST = "GET /api/v1/nodes"
WATCH = "WATCH /api/v1/nodes"
pytestmark = pytest.mark.usefixtures("quick")


def node(name: str, version: int, uid: str = "") -> dict[str, Any]:
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata}


def listing(version: int, *items: dict[str, Any]) -> Any:
    async def step(exchange: Any) -> None:
        await exchange.answer(200, {"metadata": {"resourceVersion": str(version)}, "items": list(items)})

    return step


def stream(*events: dict[str, Any] | bytes, then: str = "hold") -> Any:
    async def step(exchange: Any) -> None:
        await exchange.begin()
        for event in events:
            await exchange.send(event)
        if then == "hold":
            await asyncio.sleep(60)
        elif then == "cut":
            exchange.cut()
        else:
            await exchange.end()

    return step


def refuse(status: int, reason: str = "") -> Any:
    async def step(exchange: Any) -> None:
        await exchange.answer(status, {"kind": "Status", "reason": reason, "code": status})

    return step


def event(kind: str, thing: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": thing}


EXPIRED = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError"}}


@contextlib.asynccontextmanager
async def reflecting(client: Any) -> AsyncIterator[tuple[Reflector, list[tuple[str, str]]]]:
    told: list[tuple[str, str]] = []

    def note(change: Change) -> None:
        told.append((change.type, change.key[1]))

    reflector = Reflector(client, NODES, on_event=note)
    running = asyncio.ensure_future(reflector.run())
    try:
        yield reflector, told
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def names(reflector: Reflector) -> set[str]:
    return {key[1] for key, _ in reflector.store.items()}


def test_events_become_the_store(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, listing(5, node("a", 1), node("b", 2)))
            changes = [
                event("ADDED", node("c", 6)),
                event("MODIFIED", node("a", 7)),
                event("DELETED", node("b", 8)),
            ]
            script.on(WATCH, stream(*changes))
            async with reflecting(client) as (reflector, told):
                await reflector.synced()
                await until(lambda: len(told) == 5)
                assert names(reflector) == {"a", "c"}
                assert told[2:] == [("ADDED", "c"), ("MODIFIED", "a"), ("DELETED", "b")]
                assert script.asked(WATCH)[0].params["resourceVersion"] == "5"
                assert script.asked(WATCH)[0].params["allowWatchBookmarks"] == "true"

    asyncio.run(run())


def test_a_stream_that_ends_goes_on_from_the_last_bookmark(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, listing(5))
            script.on(WATCH, stream(event("BOOKMARK", node("", 90)), then="end"), stream())
            async with reflecting(client) as (reflector, _):
                await until(lambda: len(script.asked(WATCH)) == 2)
                assert script.asked(WATCH)[1].params["resourceVersion"] == "90"
                assert len(script.asked(LIST)) == 1
                assert reflector.restarts["ended"] == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "gone", [stream(EXPIRED), refuse(410, "Expired")], ids=["as an event", "as an answer"]
)
def test_an_expired_version_means_to_list_again(play: Callable[..., Any], gone: Any) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, listing(5, node("a", 1), node("b", 2)), listing(9, node("b", 8)))
            script.on(WATCH, gone, stream())
            async with reflecting(client) as (reflector, told):
                await until(lambda: len(script.asked(WATCH)) == 2)
                assert script.asked(WATCH)[1].params["resourceVersion"] == "9"
                assert told == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]
                assert names(reflector) == {"b"}
                assert reflector.restarts["gone"] == 1

    asyncio.run(run())


def test_a_storm_of_expired_versions_is_met_with_patience(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real pauses: this is about how many requests they leave

    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, listing(5))
            script.on(WATCH, stream(EXPIRED))
            async with reflecting(client):
                await asyncio.sleep(1.5)
                assert 2 <= len(script.requests) <= 16

    asyncio.run(run())


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(stream(b'{"type": "ADDED", "obj', then="cut"), id="cut within a line"),
        pytest.param(stream(b"<html>busy</html>\n"), id="a page of a proxy"),
        pytest.param(stream(BROKEN), id="an error of the server"),
        pytest.param(refuse(500), id="500 instead of a stream"),
        pytest.param(refuse(429), id="429 instead of a stream"),
        pytest.param(refuse(403, "Forbidden"), id="no right for now"),
    ],
)
def test_any_other_fault_of_a_stream_passes(play: Callable[..., Any], fault: Any) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, listing(5, node("a", 1)))
            script.on(WATCH, fault, stream(event("ADDED", node("b", 6))))
            async with reflecting(client) as (reflector, _):
                await until(lambda: names(reflector) == {"a", "b"})
                assert sum(reflector.restarts.values()) == 1

    asyncio.run(run())


def test_an_object_made_anew_between_two_lists_is_told_as_two(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, listing(5, node("a", 1, "old")), listing(9, node("a", 8, "new")))
            script.on(WATCH, stream(EXPIRED), stream())
            async with reflecting(client) as (_, told):
                await until(lambda: len(told) == 3)
                assert told == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]

    asyncio.run(run())


def test_a_missing_crd_counts_as_empty_and_is_looked_for(
    play: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kube.reflector.ABSENT_S", 0.05)

    async def run() -> None:
        async with play() as (script, client):
            script.on(LIST, refuse(404, "NotFound"), listing(5, node("a", 1)))
            script.on(WATCH, stream())
            async with reflecting(client) as (reflector, _):
                await reflector.synced()
                assert reflector.served is False
                await until(lambda: names(reflector) == {"a"})
                assert reflector.served is True

    asyncio.run(run())


def test_an_index_follows_its_objects(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            labelled = node("a", 6)
            labelled["metadata"]["labels"] = {"pool": "x"}
            script.on(LIST, listing(5, node("a", 1)))
            script.on(WATCH, stream(event("MODIFIED", labelled), event("DELETED", labelled)))

            def pools(thing: dict[str, Any]) -> list[str]:
                return list((thing["metadata"].get("labels") or {}).values())

            reflector = Reflector(client, NODES, indices={"pool": pools})
            seen: list[int] = []
            reflector._on_event = lambda change: seen.append(len(reflector.store.indexed("pool", "x")))
            running = asyncio.ensure_future(reflector.run())
            await until(lambda: len(seen) == 3)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert seen == [0, 1, 0]

    asyncio.run(run())
