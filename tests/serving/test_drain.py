"""Draining by itself: who may finish, and what a second signal does."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest

from serving import lifecycle
from serving.engine import Command, Engine
from serving.gate import Bounds, Gate
from serving.keys import KeyRing
from serving.limits import Limits
from serving.metrics import Metrics
from serving.proxy import Proxy
from serving.queueing import FairQueue
from tests.serving.stubs import CHUNKED, EVENTS, HANG, chunk, head, peer

EVENT = b'data: {"content":"Hi"}\n\n'


def _drained(seconds: float, *, again_after: float | None, leaves: bool) -> tuple[float, list[Any]]:
    """Drain with one stream that never ends; return how long it took, and what the client was sent."""
    sent: list[Any] = []
    begun = asyncio.Event()

    async def run() -> float:
        asked, gone, hurry = False, asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"{}", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            begun.set()

        async with peer(head(CHUNKED, EVENTS), chunk(EVENT), HANG) as (_, upstream):
            engine = Engine(Command(()), upstream)
            engine.state = "ready"
            gate = Gate(KeyRing(None), Limits(), FairQueue(2, 4), Metrics("m"), engine, Bounds())
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/completion",
                "query_string": b"",
                "headers": [],
            }
            proxy = Proxy(gate, upstream, frozenset(), strict=False)
            asking = asyncio.create_task(proxy(scope, receive, send))
            await begun.wait()
            since = monotonic()
            if again_after is not None:
                asyncio.get_running_loop().call_later(again_after, hurry.set)
            if leaves:
                asyncio.get_running_loop().call_later(0.1, gone.set)
            await lifecycle.drain(gate, upstream, seconds, hurry)
            took = monotonic() - since
            assert gate.active == 0
            await asking
            return took

    return asyncio.run(asyncio.wait_for(run(), 20)), sent


@pytest.mark.parametrize(
    ("seconds", "again_after"),
    [
        pytest.param(60.0, 0.1, id="a second signal"),
        pytest.param(0.1, None, id="the time is over"),
        pytest.param(60.0, 0.0, id="a second signal at once"),
    ],
)
def test_a_stream_is_told_why_it_ends(seconds: float, again_after: float | None) -> None:
    took, sent = _drained(seconds, again_after=again_after, leaves=False)
    assert took < 5
    text = b"".join(message.get("body", b"") for message in sent)
    assert b"the server is shutting down" in text
    assert b"[DONE]" not in text


def test_nobody_is_waited_for_who_has_left() -> None:
    took, sent = _drained(60.0, again_after=None, leaves=True)
    assert took < 5
    assert b"shutting down" not in b"".join(message.get("body", b"") for message in sent)
