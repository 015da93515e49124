"""The queue in front of the slots: bounded, fair between keys, and it never loses a slot."""

from __future__ import annotations

import asyncio
import random

import pytest

from serving.queueing import FairQueue, Turn
from serving.refusals import Refusal


def test_requests_beyond_the_slots_wait_for_their_turn() -> None:
    async def scenario() -> None:
        queue = FairQueue(slots=1, limit=5)
        first = await queue.enter("a")
        second = asyncio.create_task(queue.enter("a"))
        await asyncio.sleep(0)
        assert (queue.running, queue.waiting, second.done()) == (1, 1, False)
        first.end()
        (await second).end()
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(scenario())


def test_a_key_with_many_requests_does_not_hold_up_another() -> None:
    async def scenario() -> list[str]:
        queue = FairQueue(slots=1, limit=20)
        order: list[str] = []

        async def use(key: str) -> None:
            turn = await queue.enter(key)
            order.append(key)
            await asyncio.sleep(0)
            turn.end()

        first = await queue.enter("greedy")
        tasks = [asyncio.create_task(use("greedy")) for _ in range(6)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(use("modest")) for _ in range(2)]
        await asyncio.sleep(0)
        first.end()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(scenario())[:4] == ["modest", "greedy", "modest", "greedy"]


def test_a_full_queue_sends_a_newcomer_away_with_the_time_to_come_back() -> None:
    async def scenario() -> Refusal:
        reasons: list[str] = []
        queue = FairQueue(slots=1, limit=1, on_refusal=reasons.append)
        await queue.enter("a")
        waiting = asyncio.create_task(queue.enter("a"))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await queue.enter("a")
        waiting.cancel()
        assert reasons == ["queue-full"]
        return caught.value

    refusal = asyncio.run(scenario())
    assert refusal.status == 429
    assert int(dict(refusal.headers())[b"retry-after"]) >= 1


def test_the_newest_of_the_key_that_fills_the_queue_makes_room_for_another_key() -> None:
    async def scenario() -> None:
        queue = FairQueue(slots=1, limit=3)
        running = await queue.enter("greedy")
        greedy = [asyncio.create_task(queue.enter("greedy")) for _ in range(3)]
        await asyncio.sleep(0)
        modest = asyncio.create_task(queue.enter("modest"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task.done() for task in greedy] == [False, False, True]
        assert isinstance(greedy[2].exception(), Refusal)
        running.end()
        (await modest).end()
        for task in greedy[:2]:
            (await task).end()
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(scenario())


def test_whoever_waits_too_long_is_told_so() -> None:
    async def scenario() -> None:
        queue = FairQueue(slots=1, limit=5, timeout=0.01)
        turn = await queue.enter("a")
        with pytest.raises(Refusal, match=r"no slot was free for 0\.01 seconds") as caught:
            await queue.enter("a")
        assert caught.value.status == 503
        turn.end()
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(scenario())


def test_nobody_gets_a_turn_while_the_engine_is_down() -> None:
    async def scenario() -> None:
        queue = FairQueue(slots=2, limit=5)
        queue.close()
        waiting = asyncio.create_task(queue.enter("a"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        queue.open()
        (await waiting).end()

    asyncio.run(scenario())


def test_a_turn_ends_once_however_often_it_is_ended() -> None:
    async def scenario() -> None:
        queue = FairQueue(slots=2, limit=5)
        turn, other = await queue.enter("a"), await queue.enter("b")
        turn.end()
        turn.end()
        assert queue.running == 1
        other.end()

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_clients_that_leave_at_any_moment_leak_no_slot(seed: int) -> None:
    chance = random.Random(seed)

    async def client(queue: FairQueue) -> None:
        turn: Turn | None = None
        try:
            turn = await queue.enter(chance.choice("abc"))
            assert queue.running <= queue.slots
            await asyncio.sleep(chance.random() / 200)
        except Refusal:
            return
        finally:
            if turn is not None:
                turn.end()

    async def scenario() -> None:
        queue = FairQueue(slots=3, limit=10, timeout=0.004)
        tasks = []
        for _ in range(300):
            tasks.append(asyncio.create_task(client(queue)))
            if chance.random() < 0.3:
                chance.choice(tasks).cancel()
            if chance.random() < 0.3:
                await asyncio.sleep(chance.random() / 500)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (queue.running, queue.waiting) == (0, 0)
        for turn in [await queue.enter("last") for _ in range(3)]:
            turn.end()

    asyncio.run(scenario())
