"""A slow answer holds up nobody else, and whoever waits too long is told so in time."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from webhook import workers
from webhook.workers import Late, Workers


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        pytest.param("5s", 4.5, id="seconds"),
        pytest.param("500ms", 0.45, id="milliseconds"),
        pytest.param("1.5s", 1.35, id="a fraction"),
        pytest.param("1m", 27.0, id="more than Kubernetes allows"),
        pytest.param(None, 9.0, id="nothing"),
        pytest.param("soon", 9.0, id="no duration"),
        pytest.param("-5s", 9.0, id="less than nothing"),
    ],
)
def test_the_deadline_is_a_little_before_the_callers(timeout: str | None, seconds: float) -> None:
    assert workers.deadline(timeout, now=100.0) == pytest.approx(100.0 + seconds)


def test_the_loop_goes_on_while_a_job_takes_its_time() -> None:
    async def scene() -> int:
        ended = threading.Event()
        job = asyncio.create_task(Workers(1).run(time.monotonic() + 20, ended.wait, 20))
        turns = 0
        while not job.done():
            turns += 1
            await asyncio.sleep(0)
            if turns == 1000:
                ended.set()
        assert job.result() is True
        return turns

    assert asyncio.run(scene()) >= 1000


def test_who_waits_too_long_in_the_queue_is_told_and_the_next_one_is_served() -> None:
    async def scene() -> None:
        pool, ended = Workers(1), threading.Event()
        first = asyncio.create_task(pool.run(time.monotonic() + 20, ended.wait, 20))
        await asyncio.sleep(0.01)
        with pytest.raises(Late) as late:
            await pool.run(time.monotonic() + 0.05, int, "1")
        assert late.value.status == 503
        ended.set()
        assert await first is True
        assert await pool.run(time.monotonic() + 20, int, "2") == 2

    asyncio.run(scene())


def test_a_job_that_takes_too_long_is_told_and_keeps_its_thread_until_it_ends() -> None:
    async def scene() -> None:
        pool, ended = Workers(1), threading.Event()
        with pytest.raises(Late) as late:
            await pool.run(time.monotonic() + 0.05, ended.wait, 20)
        assert late.value.status == 504
        with pytest.raises(Late) as late:
            await pool.run(time.monotonic() + 0.05, int, "1")
        assert late.value.status == 503
        ended.set()
        assert await pool.run(time.monotonic() + 20, int, "2") == 2

    asyncio.run(scene())


def test_what_a_job_raises_comes_back() -> None:
    async def scene() -> None:
        await Workers(1).run(time.monotonic() + 20, int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(scene())
