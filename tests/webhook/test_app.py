"""The HTTPS application by itself: who waits for whom, and what is told when the time is over."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.webhook.asking import body, context, deployment, workspace
from webhook import admission, app, reviews
from webhook.metrics import Metrics
from webhook.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from webhook.admission import Context
    from webhook.reviews import Request, Response

JSON = {"Content-Type": "application/json"}


def _with_client(scene: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        within = context()
        made = app.create(app.Admissions(lambda: within, Metrics(), Traffic()))
        transport = httpx.ASGITransport(app=made)
        async with httpx.AsyncClient(transport=transport, base_url="https://webhook") as client:
            await scene(client)

    asyncio.run(run())


class Held:
    """Holds up every plan until it is told to go on, and notes the threads that worked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.threads: list[str] = []
        real = admission.validate

        def validate(request: Request, within: Context) -> Response:
            self.threads.append(threading.current_thread().name)
            if threading.current_thread() is not threading.main_thread():
                assert self.go_on.wait(20)
            return real(request, within)

        monkeypatch.setattr(admission, "validate", validate)


def test_a_plan_that_takes_its_time_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)

    async def scene(client: httpx.AsyncClient) -> None:
        slow = asyncio.create_task(client.post("/validate", content=body(workspace()), headers=JSON))
        while not held.threads:
            await asyncio.sleep(0.01)
        for _ in range(20):
            quick = await client.post("/validate", content=body(deployment()), headers=JSON)
            assert quick.json()["response"]["allowed"] is True
        assert not slow.done()
        held.go_on.set()
        assert (await slow).json()["response"]["allowed"] is True

    _with_client(scene)


def test_what_was_planned_before_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    held.go_on.set()

    async def scene(client: httpx.AsyncClient) -> None:
        other = workspace(inference={"preset": {"name": "falcon-40b"}})
        for document in (workspace(), workspace(), other, workspace()):
            await client.post("/validate", content=body(document), headers=JSON)

    _with_client(scene)
    main = threading.main_thread().name
    assert [name == main for name in held.threads] == [False, True, False, True]


@pytest.mark.parametrize("late", [504, 503], ids=["the plan takes too long", "the queue is too long"])
def test_whoever_waits_too_long_is_told_before_the_api_server_gives_up(
    monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    held = Held(monkeypatch)

    async def scene(client: httpx.AsyncClient) -> None:
        async def ask(number: int, timeout: str) -> httpx.Response:
            document = workspace(inference={"llamacpp": {"parallel": number}})
            return await client.post(f"/validate?timeout={timeout}", content=body(document), headers=JSON)

        before = [asyncio.create_task(ask(number, "20s")) for number in range(1, 3 if late == 503 else 1)]
        while len(held.threads) < len(before):
            await asyncio.sleep(0.01)
        answer = await ask(9, "200ms")
        assert answer.status_code == late
        assert "try again" in answer.text
        held.go_on.set()
        for task in before:
            assert json.loads((await task).text)["response"]["allowed"] is True

    _with_client(scene)


def test_large_reviews_beyond_the_room_wait_outside_and_small_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "ROOM_BYTES", 1)
    large = deployment()
    large["metadata"]["annotations"]["example.com/note"] = "x" * 200_000
    go_on, reading = threading.Event(), threading.Event()
    real = reviews.parse

    def parse(content: bytes) -> Request:
        if threading.current_thread() is not threading.main_thread():
            reading.set()
            assert go_on.wait(20)
        return real(content)

    monkeypatch.setattr(reviews, "parse", parse)

    async def scene(client: httpx.AsyncClient) -> None:
        async def ask(document: dict[str, Any], timeout: str = "20s") -> httpx.Response:
            return await client.post(f"/validate?timeout={timeout}", content=body(document), headers=JSON)

        first = asyncio.create_task(ask(large))
        while not reading.is_set():
            await asyncio.sleep(0.01)
        second = asyncio.create_task(ask(large))
        late = await ask(large, "200ms")
        assert (late.status_code, late.text) == (
            503, "too many large reviews wait for an answer; try again\n",
        )  # fmt: skip
        assert (await ask(deployment())).json()["response"]["allowed"] is True
        assert not first.done()
        assert not second.done()
        go_on.set()
        for task in (first, second):
            assert (await task).json()["response"]["allowed"] is True

    _with_client(scene)


@pytest.mark.parametrize("where", ["plans", "validate"])
def test_a_bug_of_ours_is_500_and_its_text_stands_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a token of the object")

    monkeypatch.setattr(admission, where, broken)

    async def scene(client: httpx.AsyncClient) -> None:
        answer = await client.post("/validate", content=body(workspace()), headers=JSON)
        assert answer.status_code == 500
        assert "berth's webhook has a bug" in answer.text
        assert "a token" not in answer.text

    _with_client(scene)
    (told,) = [record for record in caplog.records if record.getMessage() == "bug"]
    assert "a token" not in str(vars(told))
