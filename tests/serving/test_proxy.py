"""The pass-through, spoken to directly: what reaches the engine, what comes back, and every bad end."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from serving.engine import Command, Engine
from serving.gate import Bounds, Gate
from serving.keys import KeyRing
from serving.limits import Limits
from serving.metrics import Metrics
from serving.proxy import Proxy
from serving.queueing import FairQueue
from tests.serving.stubs import BREAK, CHUNKED, END, EVENTS, HANG, chunk, head, peer

if TYPE_CHECKING:
    from serving.upstream import Upstream

EVENT = b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\n'


@dataclass
class Client:
    """One request as an ASGI server passes it on."""

    path: str = "/v1/chat/completions"
    method: str = "POST"
    body: bytes = b"{}"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    leaves_after: int | None = None
    """Messages of an answer after which it closes the connection."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    _asked: bool = False
    _left: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.leaves_after == len(self.sent):
            self.leave()

    def leave(self) -> None:
        self._left.set()

    async def call(self, proxy: Proxy) -> Client:
        path, _, query = self.path.partition("?")
        scope = {
            "type": "http",
            "method": self.method,
            "path": path,
            "query_string": query.encode(),
            "headers": self.headers,
        }
        await asyncio.wait_for(proxy(scope, self.receive, self.send), 20)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body") and self.sent[-1]["type"] == "http.response.body"

    def header(self, name: bytes) -> bytes | None:
        return dict(self.sent[0]["headers"]).get(name)


def _proxy(
    upstream: Upstream,
    *,
    strict: bool = False,
    images: bool = False,
    slots: int = 2,
    queue: int = 4,
    **bounds: Any,
) -> Proxy:
    engine = Engine(Command(()), upstream)
    engine.state = "ready"
    gate = Gate(
        KeyRing(None), Limits(), FairQueue(slots, queue), Metrics("m"), engine, Bounds(**bounds)
    )  # fmt: skip
    names = frozenset({"falcon-7b", "workspace-falcon"})
    return Proxy(gate, upstream, names, strict=strict, images=images)


def _gate(proxy: Proxy) -> Gate:
    return proxy._gate


def test_bytes_and_headers_pass_in_both_directions() -> None:
    async def scenario() -> None:
        script = [
            head(EVENTS, CHUNKED, b"Access-Control-Allow-Origin: *", b"Server: llama.cpp", b"X-Own: 1"),
            chunk(EVENT), chunk(b": ping\n\n"), chunk(b"data: [DONE]\n\n"), END,
        ]  # fmt: skip
        async with peer(*script) as (engine, upstream):
            client = Client(
                path="/v1/chat/completions?a=%20b",
                body=b'{"model" :"any" ,"messages":[]}',
                headers=[
                    (b"content-type", b"application/json"),
                    (b"traceparent", b"00-1-2-01"),
                    (b"authorization", b"Bearer s3cret"),
                    (b"x-conversation-id", b"stays-after-me"),
                ],
            )
            await client.call(_proxy(upstream))
        asked, _, body = engine.requests[0].partition(b"\r\n\r\n")
        assert asked.startswith(b"POST /v1/chat/completions?a=%20b HTTP/1.1\r\n")
        assert body == client.body
        assert b"traceparent: 00-1-2-01" in asked
        assert b"s3cret" not in asked
        assert b"stays-after-me" not in asked
        assert client.answer == EVENT + b": ping\n\n" + b"data: [DONE]\n\n"
        assert client.complete
        assert client.header(b"content-type") == b"text/event-stream"
        assert client.header(b"x-own") == b"1"
        assert client.header(b"access-control-allow-origin") is None

    asyncio.run(scenario())


def test_an_error_of_the_engine_passes_unchanged() -> None:
    async def scenario() -> None:
        body = b'{"error":{"code":501,"message":"no"}}'
        script = [head(b"Content-Length: %d" % len(body), status=b"501 Not Implemented"), body]
        async with peer(*script) as (_, upstream):
            client = await Client(path="/v1/embeddings").call(_proxy(upstream))
        assert (client.status, client.answer) == (501, body)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("client", "status", "text"),
    [
        pytest.param(Client(body=b'{"a":'), 400, "no JSON", id="broken JSON"),
        pytest.param(Client(body=b"\xff"), 400, "no JSON", id="no text"),
        pytest.param(Client(body=b"[" * 100_000), 400, "no JSON", id="nested without end"),
        pytest.param(Client(body=b'{"a":' + b"1" * 5000 + b"}"), 400, "no JSON", id="a number without end"),
        pytest.param(Client(body=b"[1]"), 400, "must be a JSON object", id="a list"),
        pytest.param(Client(body=b'{"a":"' + b"x" * 2000 + b'"}'), 413, "1000 bytes", id="too large"),
        pytest.param(Client(path="/slots", method="GET"), 404, "no /slots", id="the slots of others"),
        pytest.param(Client(path="/cors-proxy", method="GET"), 404, "no /cors-proxy", id="a proxy"),
        pytest.param(Client(path="/tools"), 404, "no /tools", id="tools"),
        pytest.param(Client(path="/shutdown"), 404, "no /shutdown", id="the original's /shutdown"),
        pytest.param(Client(path="/metrics", method="GET"), 404, "no /metrics", id="metrics"),
        pytest.param(Client(path="/props"), 405, "POST", id="a changed property"),
        pytest.param(Client(method="OPTIONS"), 405, "OPTIONS", id="a preflight of another page"),
        pytest.param(Client(body=b'{"model":"gpt-4"}'), 404, "no model 'gpt-4'", id="another model"),
    ],
)
def test_what_is_wrong_with_a_request_never_reaches_the_engine(
    client: Client, status: int, text: str
) -> None:
    async def scenario() -> None:
        async with peer(head(b"Content-Length: 0")) as (engine, upstream):
            await client.call(
                _proxy(upstream, strict=True, body_bytes=150_000 if text == "no JSON" else 1000)
            )
        assert client.status == status
        assert text in json.loads(client.answer)["error"]["message"]
        assert not engine.requests

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["falcon-7b", "Falcon-7B", "workspace-falcon", None])
def test_every_name_of_the_model_is_known(name: str | None) -> None:
    async def scenario() -> int:
        async with peer(head(b"Content-Length: 0")) as (_, upstream):
            body = json.dumps({"model": name} if name else {}).encode()
            return (await Client(body=body).call(_proxy(upstream, strict=True))).status

    assert asyncio.run(scenario()) == 200


def test_anthropics_clients_read_errors_of_their_own_shape() -> None:
    async def scenario() -> None:
        async with peer() as (_, upstream):
            client = await Client(path="/v1/messages", body=b"{").call(_proxy(upstream))
        assert json.loads(client.answer)["type"] == "error"
        assert json.loads(client.answer)["error"]["type"] == "invalid_request_error"

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_its_slot_and_the_engines() -> None:
    async def scenario() -> None:
        async with peer(head(EVENTS, CHUNKED), chunk(EVENT), HANG) as (engine, upstream):
            proxy = _proxy(upstream)
            await Client(leaves_after=2).call(proxy)
            await asyncio.wait_for(engine.left.wait(), 5)
            assert _gate(proxy).active == 0
            async with asyncio.timeout(5):
                while _gate(proxy).queue.running:
                    await asyncio.sleep(0.001)

    asyncio.run(scenario())


def test_a_client_that_leaves_the_queue_takes_no_turn() -> None:
    async def scenario() -> None:
        async with peer(head(EVENTS, CHUNKED), HANG) as (engine, upstream):
            proxy = _proxy(upstream, slots=1)
            first, second = Client(), Client()
            tasks = [asyncio.create_task(client.call(proxy)) for client in (first, second)]
            while not (engine.requests and _gate(proxy).queue.waiting):
                await asyncio.sleep(0.001)
            second.leave()
            await tasks[1]
            assert _gate(proxy).queue.waiting == 0
            first.leave()
            await tasks[0]
            assert len(engine.requests) == 1
            assert not second.sent

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/v1/chat/completions", b'data: {"error": ', id="as OpenAI's clients read it"),
        pytest.param("/v1/messages", b"event: error\ndata: ", id="as Anthropic's clients read it"),
    ],
)
def test_a_stream_that_the_engine_breaks_off_ends_with_an_error(path: str, expected: bytes) -> None:
    async def scenario() -> None:
        async with peer(head(EVENTS, CHUNKED), chunk(EVENT), BREAK) as (_, upstream):
            proxy = _proxy(upstream)
            client = await Client(path=path).call(proxy)
            assert client.answer.startswith(EVENT)
            assert expected in client.answer
            assert client.complete
            assert _gate(proxy).queue.running == 0

    asyncio.run(scenario())


def test_a_document_that_the_engine_breaks_off_is_never_complete() -> None:
    async def scenario() -> None:
        async with peer(head(b"Content-Length: 50"), b'{"choices', BREAK) as (_, upstream):
            client = await Client().call(_proxy(upstream))
        assert not client.complete

    asyncio.run(scenario())


def test_an_engine_that_is_gone_before_it_answered_is_a_502() -> None:
    async def scenario() -> None:
        async with peer(BREAK) as (_, upstream):
            client = await Client().call(_proxy(upstream))
        assert client.status == 502

    asyncio.run(scenario())


def test_an_answer_that_takes_too_long_is_a_504() -> None:
    async def scenario() -> None:
        async with peer(HANG) as (engine, upstream):
            client = await Client().call(_proxy(upstream, request_seconds=0.05))
            await asyncio.wait_for(engine.left.wait(), 5)
        assert client.status == 504

    asyncio.run(scenario())


def test_a_full_queue_is_a_429_with_a_time_to_come_back() -> None:
    async def scenario() -> None:
        async with peer(HANG) as (engine, upstream):
            proxy = _proxy(upstream, slots=1, queue=0)
            first = Client()
            task = asyncio.create_task(first.call(proxy))
            while not engine.requests:
                await asyncio.sleep(0.001)
            second = await Client().call(proxy)
            assert second.status == 429
            assert int(second.header(b"retry-after") or 0) >= 1
            first.leave()
            await task

    asyncio.run(scenario())


@pytest.mark.parametrize("draining", [True, False])
def test_while_nobody_can_answer_a_request_is_told_to_come_back(draining: bool) -> None:
    async def scenario() -> None:
        async with peer() as (_, upstream):
            proxy = _proxy(upstream)
            gate = _gate(proxy)
            gate.draining = draining
            gate.engine.state = "ready" if draining else "loading"
            client = await Client().call(proxy)
        assert client.status == 503
        assert int(client.header(b"retry-after") or 0) >= 1
        assert (client.header(b"connection") == b"close") is draining

    asyncio.run(scenario())


def test_what_an_answer_cost_is_measured() -> None:
    async def scenario() -> str:
        last = (
            b'data: {"choices":[],"timings":{"cache_n":0,"prompt_n":31,"predicted_n":2,"predicted_ms":9}}\n\n'
        )
        script = [head(EVENTS, CHUNKED), chunk(EVENT), chunk(EVENT), chunk(last), END]
        async with peer(*script) as (_, upstream):
            proxy = _proxy(upstream)
            await Client().call(proxy)
        async with peer(head(b"Content-Length: 13"), b"llamacpp:a 1\n") as (_, upstream):
            return (await _gate(proxy).metrics.text(upstream)).decode()

    text = asyncio.run(scenario())
    labels = '{key="anonymous",model="m"}'
    assert f"berth_prompt_tokens_sum{labels} 31.0" in text
    assert f"berth_completion_tokens_sum{labels} 2.0" in text
    assert f"berth_time_to_first_token_seconds_count{labels} 1.0" in text
    assert f"berth_inter_token_seconds_count{labels}" in text
    assert 'berth_requests_total{code="200",key="anonymous",model="m"} 1.0' in text
    assert text.endswith("llamacpp:a 1\n")


def test_what_was_read_as_json_goes_on_as_json() -> None:
    """The engine takes 8 KiB of a form, and that is what curl says that it sends."""

    async def scenario() -> list[bytes]:
        async with peer(head(b"Content-Length: 2"), b"{}") as (engine, upstream):
            form = [(b"content-type", b"application/x-www-form-urlencoded")]
            await Client(headers=form).call(_proxy(upstream))
        return engine.requests

    (request,) = asyncio.run(scenario())
    assert b"content-type: application/json\r\n" in request
    assert b"urlencoded" not in request


def test_the_bodies_of_all_requests_have_a_bound() -> None:
    async def scenario() -> None:
        async with peer(head(b"Content-Length: 2"), b"{}") as (_, upstream):
            proxy = _proxy(upstream, slots=1, held_bytes=250)
            gate, body = _gate(proxy), json.dumps({"prompt": "a" * 86}).encode()
            turn = await gate.queue.enter("other")
            waiting = [asyncio.create_task(Client(body=body).call(proxy)) for _ in range(2)]
            while gate.queue.waiting < 2:
                await asyncio.sleep(0)
            assert gate.held == 200
            third = await Client(body=body).call(proxy)
            assert third.status == 503
            assert b"200 bytes already" in third.answer
            assert third.header(b"retry-after") is not None
            turn.end()
            assert [(await one).status for one in waiting] == [200, 200]
            assert gate.held == 0
            assert (await Client(body=body).call(proxy)).status == 200

    asyncio.run(scenario())
