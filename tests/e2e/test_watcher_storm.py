"""Through storms on a real API server: no node object doubled, none leaked, none deleted that is needed.

$BERTH_TEST_STEPS is how many steps are taken in all (10,000 before a release), $BERTH_TEST_SEED the seed of a
single run to play again.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.watcher import specs
from tests.watcher.specs import T4
from tests.watcher.stage import Stage, play
from tests.watcher.storm import Storm

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

# A client that is cut off while it connects leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

STEPS = int(os.environ.get("BERTH_TEST_STEPS", "200"))
PER_RUN = 100
SEED = os.environ.get("BERTH_TEST_SEED")
SEEDS = [int(SEED)] if SEED else list(range(1, max(1, STEPS // PER_RUN) + 1))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds and minutes takes tenths of them."""
    monkeypatch.setattr("kube.client.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("kube.client.LONGEST_PAUSE_S", 0.3)
    monkeypatch.setattr("kube.reflector.ABSENT_S", 0.5)
    monkeypatch.setattr("watcher.runner.CONFIRM_S", 1.0)
    monkeypatch.setattr("watcher.runner.TEND_S", 0.3)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_doubles_nothing_leaks_nothing_and_deletes_nothing_that_is_needed(
    watched: Kubectl, tmp_path: Path, seed: int
) -> None:
    async def scene(stage: Stage) -> None:
        random.seed(seed)  # the pauses between two tries
        storm = Storm(stage, tmp_path, seed)
        await storm.run(PER_RUN)
        print(f"seed {seed}: {dict(storm.done)}; weather {dict(storm.weather.met)}")
        print(
            f"claims: {storm.audit.created} made, {storm.audit.deleted} deleted by the watcher,"
            f" {len(storm.audit.risen)} risen, {storm.audit.for_moments} times one too many for moments"
        )
        assert storm.audit.created

    play(watched.kubeconfig, scene, fleet=specs.fleet_of("nodeclaim", (T4,)), seconds=280)
