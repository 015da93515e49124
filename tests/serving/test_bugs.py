"""What a client, the log and the metrics are told where the front itself, or its engine, goes wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from serving.engine import Command, Engine
from serving.gate import Bounds, Gate
from serving.keys import KeyRing
from serving.limits import Limits
from serving.metrics import Metrics
from serving.original import Original
from serving.proxy import Proxy
from serving.queueing import FairQueue
from tests.serving.stubs import HANG, head, peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serving.upstream import Upstream

SECRET = "my-prompt"


def _gate(upstream: Upstream, **bounds: Any) -> Gate:
    engine = Engine(Command(()), upstream)
    engine.state = "ready"
    return Gate(KeyRing(None), Limits(), FairQueue(2, 4), Metrics("m"), engine, Bounds(**bounds))


def _script(body: bytes, status: bytes = b"200 OK") -> list[bytes]:
    return [head(b"Content-Type: application/json", b"Content-Length: %d" % len(body), status=status), body]


def _chat(script: Sequence[bytes], **bounds: Any) -> tuple[httpx.Response, Gate]:
    """Ask the original's /generate, with an engine that answers so."""

    async def run() -> tuple[httpx.Response, Gate]:
        async with peer(*script) as (_, upstream):
            gate = _gate(upstream, **bounds)
            app = FastAPI()
            app.include_router(Original(gate, upstream).router())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
                return await client.post("/generate", json={"prompts": [SECRET]}), gate

    return asyncio.run(run())


def _counted(gate: Gate, code: int) -> float | None:
    labels = {"model": "m", "key": "anonymous", "code": str(code)}
    return gate.metrics.registry.get_sample_value("berth_requests_total", labels)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param(_script(b"[1, 2]"), 502, id="a list"),
        pytest.param(_script(b"rubbish"), 502, id="no JSON"),
        pytest.param(
            _script(b'{"error": "no"}', b"500 Internal Server Error"), 502, id="an error of its own"
        ),
        pytest.param(_script(b'{"error": 5}', b"400 Bad Request"), 400, id="an error that is a number"),
        pytest.param(_script(b'{"timings": {}}'), 500, id="an answer without the text"),
        pytest.param(_script(b'{"timings": {"predicted_n": 5}, "content": ""}'), 500, id="half of the times"),
    ],
)
def test_an_engine_that_answers_rubbish_is_no_fault_of_the_client(script: list[bytes], status: int) -> None:
    answer, gate = _chat(script)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert _counted(gate, status) == 1
    assert (gate.active, gate.queue.running) == (0, 0)


def test_an_answer_that_takes_too_long_is_a_504_for_the_original_s_clients_too() -> None:
    answer, gate = _chat([HANG], request_seconds=0.05)
    assert answer.status_code == 504
    assert gate.metrics.registry.get_sample_value("berth_streams_cut_total", {"by": "timeout"}) == 1
    assert _counted(gate, 504) == 1


def test_a_bug_is_logged_by_its_place_and_tells_no_prompt(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, body: dict[str, Any]) -> None:
        raise RuntimeError(f"cannot take {body}")

    monkeypatch.setattr(Proxy, "_check_model", broken)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"prompt": "%s"}' % SECRET.encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> Gate:
        async with peer() as (_, upstream):
            gate = _gate(upstream)
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/completion",
                "query_string": b"",
                "headers": [],
            }
            await Proxy(gate, upstream, frozenset(), strict=False)(scope, receive, send)
            return gate

    gate = asyncio.run(run())
    assert sent[0]["status"] == 500
    assert b"its log says where" in sent[1]["body"]
    assert "RuntimeError" in caplog.text
    assert "in broken" in caplog.text
    assert SECRET not in caplog.text
    assert (_counted(gate, 500), gate.active) == (1, 0)
