"""What Argo CD, Flux and kubectl make of the statuses that the watcher writes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from berth import fleet as fleets
from berth import labels
from tests import test_gitops as gitops
from tests.watcher import worlds
from tests.watcher.test_status import healthy
from tests.watcher.worlds import NOW, TYPE
from watcher.reasons import Condition, Reason
from watcher.reconcile import decide
from watcher.world import PatchStatus, Price, Rails, Snapshot

RAILS = Rails(prices={TYPE: Price(1, 0.5)})
FULL = fleets.Fleet(budgets={"chat": fleets.Budget(gpus=0)})


def written(
    workspace: worlds.Object, fleet: fleets.Fleet | None = None, rails: Rails = RAILS, **fields: Any
) -> worlds.Object:
    """The Workspace after one pass."""
    fields.setdefault("served", worlds.SERVED)
    decision = decide(Snapshot(workspace, **fields), fleet or fleets.Fleet(), rails, NOW)
    (status,) = (action.status for action in decision.actions if isinstance(action, PatchStatus))
    return {**workspace, "status": status}


def unrendered() -> worlds.Object:
    """A Workspace that somebody applied as it was written."""
    workspace = worlds.workspace()
    del workspace["metadata"]["annotations"][labels.PLAN]
    return workspace


def well() -> worlds.Object:
    """A Workspace that answers."""
    workspace = worlds.workspace()
    return written(workspace, **healthy(workspace))


def drifted() -> worlds.Object:
    """A Workspace whose node lost its GPU."""
    workspace = worlds.workspace()
    return written(workspace, **healthy(workspace, nodes=(worlds.node("n0", gpus=0),)))


def failing(times: int) -> worlds.Object:
    """A Workspace whose node could not be had so many times."""
    entry = {"index": 0, "attempt": times, "failures": times, "reason": "QuotaExceeded", "message": "none"}
    return written(worlds.workspace(status={"nodes": [{**entry, "retryAt": worlds.at(600)}]}))


PAUSED = worlds.workspace(annotations={labels.PAUSED: "true"})
DRY = Rails(prices=RAILS.prices, dry_run=True)
CASES = {
    "answers": (well(), "Healthy"),
    "new": (written(worlds.workspace()), "Progressing"),
    "not rendered": (written(unrendered()), "Degraded"),
    "over budget": (written(worlds.workspace(), FULL), "Degraded"),
    "no CRD": (written(worlds.workspace(), served={}), "Degraded"),
    "refused": (written(worlds.workspace(), refused="no right"), "Degraded"),
    "paused with a node to make": (written(PAUSED), "Degraded"),
    "dry run": (written(worlds.workspace(), rails=DRY), "Degraded"),
    "failed once": (failing(1), "Progressing"),
    "failed three times": (failing(3), "Degraded"),
    "a GPU is missing": (drifted(), "Progressing"),
}


@pytest.mark.parametrize(("document", "expected"), list(CASES.values()), ids=list(CASES))
def test_argo_cd_flux_and_kubectl_agree(document: worlds.Object, expected: str) -> None:
    assert gitops.health(document)[0] == expected
    assert gitops.flux(document) in gitops._AS_ARGO[expected]
    as_kstatus = {"Healthy": "Current", "Degraded": "Failed", "Progressing": "InProgress"}
    assert gitops.kstatus(document) == as_kstatus[expected]


def test_a_change_in_git_that_was_not_seen_yet_is_progress() -> None:
    document = well()
    document["metadata"]["generation"] += 1
    assert gitops.health(document)[0] == "Progressing"
    assert gitops.kstatus(document) == "InProgress"


def test_the_message_says_what_is_waited_for_or_wrong() -> None:
    assert gitops.health(CASES["new"][0])[1] == f"waiting for 1 node of {TYPE}"
    said = gitops.health(CASES["over budget"][0])[1]
    assert said.endswith("chat may use 0 GPUs, and this Workspace would make it 1")
    assert "`berth render`" in gitops.health(CASES["not rendered"][0])[1]


OURS = [path for path in sorted((gitops.HEALTH / "testdata").iterdir()) if "kaito" not in path.stem]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_the_examples_show_reasons_that_there_are(path: Any) -> None:
    status = yaml.safe_load(path.read_text()).get("status", {})
    for one in status.get("conditions", []):
        assert one["type"] in set(Condition)
        assert one["reason"] in set(Reason)
