"""So many bytes are held at once; who waits comes in by turn, or is told in time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.room import Room
from webhook.workers import Late

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 20.0


def entering(room: Room, size: int, inside: list[int], seconds: float = LONG) -> asyncio.Task[None]:
    """Hold so much of the room until cancelled; `inside` lists who is in."""

    async def run() -> None:
        async with room.held(size, time.monotonic() + seconds):
            inside.append(size)
            try:
                await asyncio.Event().wait()
            finally:
                inside.remove(size)

    return asyncio.create_task(run())


async def settle(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_who_fits_comes_in_at_once_and_the_others_by_their_turn() -> None:
    async def scene() -> None:
        room, inside = Room(10), list[int]()
        first, second = entering(room, 6, inside), entering(room, 4, inside)
        third, fourth = entering(room, 5, inside), entering(room, 1, inside)
        await settle(lambda: inside == [6, 4])
        await end(second)
        await asyncio.sleep(0.01)
        assert inside == [6]  # the small one does not pass the large one before it
        await end(first)
        await settle(lambda: inside == [5, 1])
        await end(third, fourth)

    asyncio.run(scene())


def test_what_is_larger_than_the_room_has_it_for_itself() -> None:
    async def scene() -> None:
        room, inside = Room(10), list[int]()
        large, small = entering(room, 99, inside), entering(room, 1, inside)
        await settle(lambda: inside == [99])
        await end(large)
        await settle(lambda: inside == [1])
        await end(small)

    asyncio.run(scene())


def test_who_waits_too_long_is_told_and_whoever_stood_behind_comes_in() -> None:
    async def scene() -> None:
        room, inside = Room(10), list[int]()
        first = entering(room, 6, inside)
        large, small = entering(room, 9, inside, 0.05), entering(room, 4, inside)
        with pytest.raises(Late) as late:
            await large
        assert late.value.status == 503
        await settle(lambda: inside == [6, 4])
        await end(first, small)

    asyncio.run(scene())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 14), st.sampled_from(["enter", "leave", "hurry"])), max_size=25))
def test_no_history_holds_too_much_or_loses_room(steps: list[tuple[int, str]]) -> None:
    async def scene() -> None:
        room, inside, tasks = Room(10), list[int](), list[asyncio.Task[None]]()
        for number, what in steps:
            if what == "leave" and tasks:
                await end(tasks.pop(number % len(tasks)))
            else:
                tasks.append(entering(room, number, inside, 0.0 if what == "hurry" else LONG))
            await asyncio.sleep(0)
            assert sum(min(size, 10) for size in inside) <= 10
        await end(*tasks)
        last = entering(room, 10, inside)
        await settle(lambda: inside == [10])
        await end(last)

    asyncio.run(scene())
