"""The client under every answer that an API server or the network between gives."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from kube import errors
from kube.resources import NODE_CLAIMS, NODES, WORKSPACES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ONE = "/api/v1/nodes/one"
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}}


async def says(exchange: Any, status: int, document: Any = None, **headers: str) -> None:
    await exchange.answer(status, document, **headers)


def answer(status: int, document: Any = None, **headers: str) -> Any:
    return lambda exchange: says(exchange, status, document, **headers)


async def cut(exchange: Any) -> None:
    exchange.cut()


async def drip(exchange: Any) -> None:
    """A body that never ends, one byte at a time: no single read is slow."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(200):
        exchange.writer.write(b" ")
        await exchange.writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("status", "reason", "family"),
    [
        pytest.param(403, "Forbidden", errors.Forbidden, id="RBAC refuses"),
        pytest.param(404, "NotFound", errors.NotFound, id="no such object"),
        pytest.param(409, "AlreadyExists", errors.AlreadyExists, id="it exists"),
        pytest.param(409, "Conflict", errors.Conflict, id="it changed"),
        pytest.param(410, "Expired", errors.Gone, id="too old"),
        pytest.param(422, "Invalid", errors.Invalid, id="against the schema"),
        pytest.param(401, "Unauthorized", errors.Unauthorized, id="unknown token"),
    ],
)
def test_a_refusal_has_its_own_error_and_is_asked_once(
    play: Callable[..., Any], status: int, reason: str, family: type[errors.ApiError]
) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(f"GET {ONE}", answer(status, {"kind": "Status", "reason": reason, "message": "told"}))
            with pytest.raises(family, match="told") as caught:
                await client.get(NODES, "one")
            assert caught.value.status == status
            assert len(script.asked(f"GET {ONE}")) == 1

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "fault", [answer(500), answer(503), answer(429), cut], ids=["500", "503", "429", "a dropped connection"]
)
def test_a_read_is_tried_again(play: Callable[..., Any], fault: Any) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(f"GET {ONE}", fault, fault, answer(200, NODE))
            assert (await client.get(NODES, "one"))["metadata"]["name"] == "one"
            assert len(script.asked(f"GET {ONE}")) == 3

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_a_create_whose_answer_is_lost_is_not_sent_twice(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on("POST /apis/karpenter.sh/v1/nodeclaims", cut)
            with pytest.raises(errors.Unreachable):
                await client.create(NODE_CLAIMS, {"metadata": {"name": "one"}})
            assert len(script.asked("POST /apis/karpenter.sh/v1/nodeclaims")) == 1

    asyncio.run(run())


@pytest.mark.usefixtures("quick")
def test_a_create_is_sent_again_after_429_since_nothing_was_done(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on("POST /apis/karpenter.sh/v1/nodeclaims", answer(429), answer(201, NODE))
            await client.create(NODE_CLAIMS, {"metadata": {"name": "one"}})
            assert client.writes == 2

    asyncio.run(run())


def test_the_server_says_how_long_to_wait(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(f"GET {ONE}", answer(429, Retry_After="1"), answer(200, NODE))
            began = time.monotonic()
            await client.get(NODES, "one")
            assert time.monotonic() - began >= 1.0

    asyncio.run(run())


def test_a_body_that_drips_for_ever_ends_in_time(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play(timeout_s=0.3, tries=1) as (script, client):
            script.on(f"GET {ONE}", drip)
            began = time.monotonic()
            with pytest.raises(errors.TimedOut):
                await client.get(NODES, "one")
            assert time.monotonic() - began < 2

    asyncio.run(run())


def test_a_refused_call_leaves_open_streams_alone(play: Callable[..., Any]) -> None:
    """kr8s closes the session that they share."""

    async def run() -> None:
        async with play() as (script, client):
            refused = asyncio.Event()

            async def stream(exchange: Any) -> None:
                await exchange.begin()
                await refused.wait()
                await exchange.send({"type": "ADDED", "object": NODE})
                await exchange.end()

            script.on("WATCH /api/v1/nodes", stream)
            script.on(f"GET {ONE}", answer(403, {"reason": "Forbidden"}))
            events = client.watch(NODES, resource_version="1", timeout_s=5)
            watching = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.1)
            with pytest.raises(errors.Forbidden):
                await client.get(NODES, "one")
            refused.set()
            assert (await watching).type == "ADDED"
            await events.aclose()

    asyncio.run(run())


async def _only_the_second_token(exchange: Any) -> None:
    taken = exchange.headers["authorization"] == "Bearer second"
    await exchange.answer(200 if taken else 401, NODE if taken else {"reason": "Unauthorized"})


def test_a_token_that_changed_is_read_again_when_the_old_one_is_refused(
    play: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kube.transport.REREAD_AGAIN_SECONDS", 0.0)

    async def run() -> None:
        async with play() as (script, client):
            script.on(f"GET {ONE}", _only_the_second_token)
            config = tmp_path / "kubeconfig"
            config.write_text(config.read_text().replace("first", "second"))
            assert await client.get(NODES, "one") == NODE
            assert await client.get(NODES, "one") == NODE
            assert len(script.requests) == 3

    asyncio.run(run())


def test_credentials_that_cannot_be_read_again_are_told_and_the_refusal_stands(
    play: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("kube.transport.REREAD_AGAIN_SECONDS", 0.0)

    async def run() -> None:
        async with play() as (script, client):
            script.on(f"GET {ONE}", _only_the_second_token)
            (tmp_path / "kubeconfig").unlink()
            with pytest.raises(errors.Unauthorized):
                await client.get(NODES, "one")

    asyncio.run(run())
    assert "the credentials cannot be read again" in caplog.text


def test_a_list_is_read_page_by_page(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            first = {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [NODE]}
            second = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "two"}}]}
            script.on("GET /api/v1/nodes", answer(200, first), answer(200, second))
            listing = await client.list(NODES, labels="a=b")
            assert [item["metadata"]["name"] for item in listing.items] == ["one", "two"]
            assert [item["kind"] for item in listing.items] == ["Node", "Node"]
            assert listing.resource_version == "7"
            assert [request.params.get("continue") for request in script.requests] == [None, "more"]
            assert all(request.params["labelSelector"] == "a=b" for request in script.requests)

    asyncio.run(run())


def test_half_a_line_is_no_event(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):

            async def stream(exchange: Any) -> None:
                await exchange.begin()
                await exchange.send({"type": "ADDED", "object": NODE})
                await exchange.send(b'{"type": "MODIFIED", "object": {"meta')
                exchange.cut()

            script.on("WATCH /api/v1/nodes", stream)
            events = client.watch(NODES, resource_version="1", timeout_s=5)
            assert (await anext(events)).type == "ADDED"
            with pytest.raises(errors.Unreachable):
                await anext(events)

    asyncio.run(run())


def test_an_error_event_is_raised(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):

            async def stream(exchange: Any) -> None:
                await exchange.begin()
                await exchange.send({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}})
                await exchange.end()

            script.on("WATCH /api/v1/nodes", stream)
            with pytest.raises(errors.Gone):
                await anext(client.watch(NODES, resource_version="1", timeout_s=5))

    asyncio.run(run())


def test_a_delete_names_the_very_object(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            path = "DELETE /apis/karpenter.sh/v1/nodeclaims/one"
            script.on(path, answer(200, {"kind": "Status"}))
            await client.delete(NODE_CLAIMS, "one", uid="u-1")
            body = json.loads(script.asked(path)[0].body)
            assert body["preconditions"] == {"uid": "u-1"}

    asyncio.run(run())


def test_server_side_apply_names_its_manager(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            path = "PATCH /apis/kaito.sh/v1beta1/namespaces/a/workspaces/w"
            script.on(path, answer(200, {}))
            body = {"metadata": {"name": "w", "namespace": "a"}}
            await client.apply(WORKSPACES, body, manager="berth-watcher")
            sent = script.asked(path)[0]
            assert sent.params == {"fieldManager": "berth-watcher", "force": "true"}
            assert sent.headers["content-type"] == "application/apply-patch+yaml"
            assert json.loads(sent.body)["kind"] == "Workspace"

    asyncio.run(run())


def test_no_server_is_unreachable(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play(tries=1) as (script, client):
            script.on(f"GET {ONE}", cut)
            with pytest.raises(errors.Unreachable):
                await client.get(NODES, "one")

    asyncio.run(run())


def test_concurrent_first_calls_share_one_session(play: Callable[..., Any]) -> None:
    async def run() -> None:
        async with play() as (script, client):
            script.on(f"GET {ONE}", answer(200, NODE))
            session = client._transport._api._session
            await asyncio.gather(*(client.get(NODES, "one") for _ in range(5)))
            assert session is not None
            assert client._transport._api._session is session

    asyncio.run(run())
