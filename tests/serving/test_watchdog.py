"""When an engine counts as hanging."""

from __future__ import annotations

from serving.watchdog import Watch


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _looks(*looks: tuple[float, bool, int]) -> list[bool]:
    clock = Clock()
    watch = Watch(10.0, clock)
    found = []
    for clock.now, owing, mark in looks:
        found.append(watch.look(owing=owing, mark=mark))
    return found


def test_an_engine_that_owes_tokens_and_makes_none_hangs() -> None:
    assert _looks((1, True, 5), (6, True, 5), (12, True, 5)) == [False, False, True]


def test_tokens_are_progress() -> None:
    assert not any(_looks((1, True, 5), (11, True, 6), (20, True, 7), (29, True, 8)))


def test_an_engine_that_owes_nothing_may_rest() -> None:
    assert not any(_looks((1, False, 5), (50, False, 5), (100, False, 5)))


def test_time_counts_from_the_first_debt_and_not_from_the_last_token() -> None:
    assert _looks((1, False, 5), (100, True, 5), (105, True, 5), (111, True, 5)) == [
        False,
        False,
        False,
        True,
    ]
