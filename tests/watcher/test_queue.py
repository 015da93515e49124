"""The queue keeps client-go's promises, told by examples and by random histories."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import Any

import pytest

from kube.errors import Unreachable
from watcher.queue import Queue, work


def test_a_key_added_twice_is_worked_on_once() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue()
        queue.add("a")
        queue.add("a")
        queue.add("b")
        assert len(queue) == 2
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0

    asyncio.run(run())


def test_a_key_added_while_it_is_worked_on_comes_once_more_and_not_before() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    asyncio.run(run())


def test_of_several_times_the_earliest_counts() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue()
        loop = asyncio.get_running_loop()
        began = loop.time()
        queue.add_after("a", 30)
        queue.add_after("a", 0.05)
        queue.add_after("a", 40)
        assert await queue.get() == "a"
        assert 0.04 < loop.time() - began < 5
        queue.done("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await queue.get()

    asyncio.run(run())


def test_a_waiting_worker_hears_of_a_nearer_time() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue()
        queue.add_after("late", 30)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0.01)
        queue.add_after("soon", 0.01)
        async with asyncio.timeout(5):
            assert await waiting == "soon"

    asyncio.run(run())


def test_failures_come_back_ever_more_rarely_until_forgotten() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue(first_s=1, longest_s=10)
        delays = [queue.failed("a") for _ in range(6)]
        for delay, most in zip(delays, [1, 2, 4, 8, 10, 10], strict=True):
            assert 0.8 * most <= delay <= most
        assert queue.failures("a") == 6
        queue.forget("a")
        assert queue.failed("a") <= 1
        assert queue.failed("b", at_least_s=7) == 7

    asyncio.run(run())


def test_a_handler_that_fails_is_called_again_and_others_go_on() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue(first_s=0.001)
        calls: Counter[str] = Counter()

        async def handle(key: str) -> float | None:
            calls[key] += 1
            if key == "bad" and calls[key] < 4:
                raise ValueError("not yet")
            return None

        queue.add("bad")
        queue.add("good")
        working = asyncio.create_task(work(queue, handle, workers=2))
        async with asyncio.timeout(5):
            while calls["bad"] < 4 or not queue.idle:
                await asyncio.sleep(0.005)
        assert calls == {"bad": 4, "good": 1}
        assert queue.failures("bad") == 0
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_no_history_loses_a_key_or_works_on_it_twice_at_a_time(seed: int) -> None:
    """What was said last about a key is always seen by a handler that began afterwards."""

    async def run() -> None:
        dice = random.Random(seed)
        queue: Queue[int] = Queue(first_s=0.0005, longest_s=0.002)
        wanted: Counter[int] = Counter()
        seen: Counter[int] = Counter()
        busy: set[int] = set()
        overlaps: list[int] = []

        async def handle(key: int) -> float | None:
            if key in busy:
                overlaps.append(key)
            busy.add(key)
            try:
                now = wanted[key]
                await asyncio.sleep(dice.choice([0, 0, 0.001]))
                if dice.random() < 0.2:
                    raise OSError("a fault")
                seen[key] = max(seen[key], now)
                return dice.choice([None, None, 0.001])
            finally:
                busy.discard(key)

        working = asyncio.create_task(work(queue, handle, workers=4))
        for _ in range(300):
            key = dice.randrange(8)
            wanted[key] += 1
            if dice.random() < 0.7:
                queue.add(key)
            else:
                queue.add_after(key, dice.choice([0.0005, 0.002]))
            if dice.random() < 0.3:
                await asyncio.sleep(dice.choice([0, 0.0005]))
        async with asyncio.timeout(20):
            while seen != wanted:
                assert not working.done()
                await asyncio.sleep(0.002)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert overlaps == []

    asyncio.run(run())


def test_a_server_that_says_how_long_to_wait_is_heard() -> None:
    async def run() -> None:
        queue: Queue[str] = Queue(first_s=0.0001)
        loop = asyncio.get_running_loop()
        times: list[float] = []

        class Busy(Exception):
            retry_after = 0.2

        async def handle(key: str) -> Any:
            times.append(loop.time())
            if len(times) == 1:
                raise Busy
            return None

        queue.add("a")
        working = asyncio.create_task(work(queue, handle, workers=1))
        async with asyncio.timeout(5):
            while len(times) < 2:
                await asyncio.sleep(0.01)
        assert times[1] - times[0] >= 0.2
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(KeyError("name"), True, id="a bug is told with its place"),
        pytest.param(Unreachable("no answer"), False, id="what the server did is told in a sentence"),
    ],
)
def test_a_failure_is_told(error: Exception, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        queue: Queue[str] = Queue(first_s=30)

        async def handle(_: str) -> None:
            raise error

        queue.add("a")
        working = asyncio.create_task(work(queue, handle, workers=1))
        async with asyncio.timeout(5):
            while not queue.failures("a") or not queue.idle:
                await asyncio.sleep(0.001)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    asyncio.run(run())
    (record,) = caplog.records
    assert str(error) in record.getMessage()
    assert bool(record.exc_info) is told
