"""Long random walks through the same trouble as the state machine's; a seed repeats a walk.

The state machine finds the shortest way to a fault, the walks find the faults that need a long way.
`BERTH_TEST_STEPS` is how many steps are taken in all, `BERTH_TEST_SEED` the first seed.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from tests.watcher.test_machine import TYPES, WAYS, Watcher

STEPS = int(os.environ.get("BERTH_TEST_STEPS", "3000"))
FIRST = int(os.environ.get("BERTH_TEST_SEED", "0"))
PER_WALK = 60
PARTS = ("workspace", "claims", "nodes", "pods", "deployment")


def one_step(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Draw what happens next."""
    place = rng.randrange(8)
    ways: list[tuple[int, str, dict[str, Any]]] = [
        (
            30,
            "one_pass",
            {"stop_at": rng.choice([None, None, None, 0, 1, 2, 3]), "lands": rng.random() < 0.7},
        ),
        (8, "dies_in_a_pass", {"stop_at": rng.randrange(5)}),
        (25, "watch_delivers", {"what": rng.choice(PARTS)}),
        (10, "a_quiet_while", {"rounds": rng.randrange(2, 6), "behind": rng.random() < 0.5}),
        (20, "claim_gets_on", {"place": place}),
        (10, "all_claims_get_on", {}),
        (4, "claim_fails", {"place": place, "why": rng.choice(["quota", "no right", "SkuNotAvailable"])}),
        (4, "claim_is_taken", {"place": place}),
        (4, "claim_ends", {"place": place}),
        (4, "node_is_lost", {"place": place}),
        (4, "capacity", {"there": rng.random() < 0.7}),
        (
            8,
            "git_changes",
            {"count": rng.randrange(1, 5), "types": rng.choice(TYPES), "way": rng.choice(WAYS)},
        ),
        (3, "somebody_edits", {"count": rng.randrange(1, 5)}),
        (4, "pause", {"on": rng.random() < 0.4}),
        (1, "workspace_is_deleted", {"really": rng.random() < 0.3}),
        (12, "time_passes", {"seconds": rng.choice([1.0, 30.0, 300.0, 1800.0])}),
    ]
    _, name, arguments = rng.choices(ways, weights=[weight for weight, _, _ in ways])[0]
    return name, arguments


def walk(seed: int) -> None:
    """Take one walk, and let everything come to rest."""
    rng = random.Random(seed)
    machine = Watcher()
    machine.begin(
        count=rng.randrange(1, 4), types=rng.choice(TYPES), limit=rng.choice([None, None, None, 3, 5])
    )
    for _ in range(PER_WALK):
        name, arguments = one_step(rng)
        getattr(machine, name)(**arguments)
        machine.remembered_attempts_are_never_behind_living_claims()
    machine.teardown()


@pytest.mark.timeout(3600)
def test_walks() -> None:
    for seed in range(FIRST, FIRST + max(1, STEPS // PER_WALK)):
        try:
            walk(seed)
        except AssertionError as error:
            raise AssertionError(f"BERTH_TEST_SEED={seed}: {error}") from error
