"""One pass: which actions, in which order, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from berth import labels
from berth.fleet import Fleet
from tests.watcher import worlds
from tests.watcher.worlds import NOW, TYPE, UID
from watcher import records
from watcher.reconcile import decide
from watcher.world import (
    Create,
    Decision,
    Delete,
    PatchStatus,
    Price,
    Rails,
    Snapshot,
    Tell,
)

RAILS = Rails(prices={TYPE: Price(1, 0.5)})


def one_pass(workspace: worlds.Object, rails: Rails = RAILS, **fields: Any) -> Decision:
    """One pass over a Workspace in a cluster that serves everything."""
    fields.setdefault("served", worlds.SERVED)
    return decide(Snapshot(workspace, **fields), Fleet(), rails, NOW)


def kinds(decision: Decision) -> list[str]:
    """The actions' names in their order, without Events."""
    return [type(action).__name__ for action in decision.actions if not isinstance(action, Tell)]


def events(decision: Decision) -> list[tuple[str, str]]:
    """Type and reason of each Event."""
    return [(action.type, action.reason) for action in decision.actions if isinstance(action, Tell)]


def finalized(workspace: worlds.Object, **meta: Any) -> worlds.Object:
    """The Workspace with our finalizer and somebody else's."""
    workspace["metadata"] |= {"finalizers": ["other.dev/x", labels.FINALIZER], **meta}
    return workspace


DELETING = {"deletionTimestamp": worlds.at(0)}


def test_the_finalizer_comes_first_and_the_status_last() -> None:
    decision = one_pass(worlds.workspace(2))
    assert kinds(decision) == ["AddFinalizer", "Create", "Create", "PatchStatus"]
    assert decision.outcome == "NodesMissing"
    (status,) = (action.status for action in decision.actions if isinstance(action, PatchStatus))
    assert [entry["name"] for entry in status["nodes"]] == [records.name(UID, index, 0) for index in (0, 1)]


def test_a_removal_comes_before_what_is_made() -> None:
    failing = worlds.claim(failure=("InsufficientCapacity", "none left"))
    workspace = finalized(worlds.workspace(fallback_instance_types=(worlds.SPARE,)))
    decision = one_pass(workspace, claims=(failing,))
    assert kinds(decision) == ["Delete", "Create", "PatchStatus"]
    assert Delete("NodeClaim", "ws0x0", "uid-of-ws0x0") in decision.actions
    assert ("Normal", "NodeRemoved") in events(decision)
    assert ("Normal", "NodeRequested") in events(decision)


def test_a_second_pass_over_the_same_cluster_does_nothing() -> None:
    first = one_pass(worlds.workspace())
    body = next(action.body for action in first.actions if isinstance(action, Create))
    status = next(action.status for action in first.actions if isinstance(action, PatchStatus))
    made = {**body, "metadata": {**body["metadata"], "uid": "x", "creationTimestamp": worlds.at(0)}}
    workspace = finalized(worlds.workspace(status=status))
    assert one_pass(workspace, claims=(made,)).actions == ()


def test_a_finalizer_that_somebody_took_away_comes_back() -> None:
    assert kinds(one_pass(worlds.workspace(), claims=(worlds.claim(),)))[0] == "AddFinalizer"


@pytest.mark.parametrize(
    ("fields", "removed"),
    [
        pytest.param({}, True, id="nothing is left"),
        pytest.param({"claims": (worlds.claim(terminating=True),)}, False, id="a claim is still going"),
        pytest.param({"claims": (worlds.claim(uid=None),)}, True, id="somebody else's claim"),
    ],
)
def test_the_finalizer_goes_when_nothing_is_to_be_cleaned(fields: dict[str, Any], removed: bool) -> None:
    workspace = finalized(worlds.workspace(provisioning="none"))
    assert ("RemoveFinalizer" in kinds(one_pass(workspace, **fields))) is removed


def test_a_workspace_that_lost_its_plan_keeps_nodes_and_finalizer() -> None:
    workspace = finalized(worlds.workspace())
    del workspace["metadata"]["annotations"][labels.PLAN]
    for claims in ((), (worlds.claim(stage=3),)):
        decision = one_pass(workspace, claims=claims)
        assert kinds(decision) == ["PatchStatus"]
        assert decision.outcome == "NotRendered"


def test_a_stale_plan_makes_and_removes_nothing() -> None:
    workspace = finalized(worlds.workspace(2))
    workspace["resource"]["count"] = 1
    decision = one_pass(workspace, claims=(worlds.claim(0, stage=3), worlds.claim(7, instance_type="Old")))
    assert kinds(decision) == ["PatchStatus"]


def test_a_deletion_removes_every_claim_of_ours_and_waits_for_a_live_look() -> None:
    workspace = finalized(worlds.workspace(), **DELETING)
    claims = (worlds.claim(0), worlds.claim(1, kind="Machine"), worlds.claim(2, terminating=True))
    decision = one_pass(workspace, claims=(*claims, worlds.claim(3, uid=None)), live=True)
    assert kinds(decision) == ["Delete", "Delete", "PatchStatus"]
    assert {action.name for action in decision.actions if isinstance(action, Delete)} == {"ws0x0", "ws1x0"}
    assert decision.again_s is not None
    assert kinds(one_pass(workspace, claims=(claims[2],), live=False)) == []
    assert kinds(one_pass(workspace, claims=(claims[2],), live=True)) == ["RemoveFinalizer"]


@pytest.mark.parametrize("served", [worlds.SERVED, {}], ids=["served", "no CRD at all"])
def test_a_deletion_needs_neither_plan_nor_provisioner(served: dict[str, str]) -> None:
    workspace = finalized(worlds.workspace(annotations={labels.PAUSED: "true"}), **DELETING)
    del workspace["metadata"]["annotations"][labels.PLAN]
    assert kinds(one_pass(workspace, live=True, served=served)) == ["RemoveFinalizer"]
    assert kinds(one_pass(workspace, claims=(worlds.claim(),), live=True)) == ["Delete", "PatchStatus"]


def test_a_deletion_that_is_refused_says_so() -> None:
    workspace = finalized(worlds.workspace(), **DELETING)
    decision = one_pass(workspace, claims=(worlds.claim(),), live=True, refused="no right")
    assert kinds(decision) == ["PatchStatus"]
    (status,) = (action.status for action in decision.actions if isinstance(action, PatchStatus))
    assert "ws0x0 removed: no right" in status["conditions"][0]["message"]


def test_a_deletion_without_our_finalizer_is_no_business_of_ours() -> None:
    workspace = worlds.workspace()
    workspace["metadata"] |= {**DELETING, "finalizers": ["other.dev/x"]}
    assert one_pass(workspace, claims=(worlds.claim(),), live=True).actions == ()


def test_a_dry_run_writes_the_status_alone() -> None:
    dry = replace(RAILS, dry_run=True)
    assert kinds(one_pass(worlds.workspace(), dry)) == ["PatchStatus"]
    assert kinds(one_pass(finalized(worlds.workspace(provisioning="none")), dry)) == ["PatchStatus"]
    going = finalized(worlds.workspace(), **DELETING)
    assert kinds(one_pass(going, dry, claims=(worlds.claim(),), live=True)) == ["PatchStatus"]
    assert kinds(one_pass(going, dry, live=True)) == []


def test_events_tell_of_changes_once() -> None:
    workspace = worlds.workspace()
    failing = worlds.claim(failure=("LaunchFailed", "no right"))
    first = one_pass(workspace, claims=(failing,))
    assert ("Warning", "LaunchFailed") in events(first)
    assert len(events(first)) == len(set(events(first)))
    status = next(action.status for action in first.actions if isinstance(action, PatchStatus))
    assert events(one_pass(finalized(worlds.workspace(status=status)), claims=(failing,))) == []


def test_strangers_are_reported_and_stay() -> None:
    decision = one_pass(worlds.workspace(), claims=(worlds.claim(9, uid=None),))
    assert ("Warning", "ForeignClaim") in events(decision)
    assert "Delete" not in kinds(decision)


def test_the_nodes_that_count_are_handed_back_at_once() -> None:
    decision = one_pass(worlds.workspace(provisioning="none"), nodes=(worlds.node("a"), worlds.node("b")))
    assert decision.workers == ("a",)


def test_an_existing_node_that_is_away_is_looked_at_again() -> None:
    away = worlds.node("a", ready=False, since=-60)
    workspace = worlds.workspace(provisioning="none", status={"workerNodes": ["a"]})
    assert one_pass(workspace, nodes=(away,)).again_s == 540
