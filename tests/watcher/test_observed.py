"""How claims, nodes and pods are read, and why clouds give no node."""

from __future__ import annotations

import pytest

from berth.quantities import GIB
from tests.watcher import worlds
from tests.watcher.worlds import UID, condition
from watcher import failures, observed
from watcher.observed import Stage
from watcher.reasons import Reason
from watcher.world import Snapshot


@pytest.mark.parametrize("kind", ["NodeClaim", "Machine"])
@pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.word)
def test_a_claim_is_as_far_as_its_conditions_say(kind: str, stage: Stage) -> None:
    found = observed.claim(worlds.claim(3, 2, kind=kind, stage=stage, node_name="n"), UID)
    assert (found.kind, found.stage, found.index, found.attempt) == (kind, stage, 3, 2)
    assert (found.ours, found.node, found.failure, found.silent) == (True, "n", None, False)
    assert (found.instance_type, found.disk) == (worlds.TYPE, 2000 * GIB)


def test_a_claim_is_ours_by_the_uid_alone() -> None:
    assert not observed.claim(worlds.claim(uid=None), UID).ours
    assert not observed.claim(worlds.claim(uid="another"), UID).ours
    assert not observed.claim(worlds.claim(uid=None), "").ours


def test_a_claim_that_nobody_touched_is_silent() -> None:
    document = worlds.claim()
    del document["status"]
    assert observed.claim(document, UID).silent


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("LaunchFailed", "Operation could not be completed as it results in exceeding approved "
         "standardNCFamily Cores quota", Reason.QUOTA_EXCEEDED),
        ("LaunchFailed", "VcpuLimitExceeded: You have requested more vCPU capacity", Reason.QUOTA_EXCEEDED),
        ("InsufficientCapacity", "all requested instance types were unavailable during launch",
         Reason.INSUFFICIENT_CAPACITY),
        ("LaunchFailed", "all requested instance types were unavailable during launch",
         Reason.INSUFFICIENT_CAPACITY),
        ("LaunchFailed", "ErrorCode: SkuNotAvailable", Reason.INSUFFICIENT_CAPACITY),
        ("LaunchFailed", "ZonalAllocationFailed", Reason.INSUFFICIENT_CAPACITY),
        ("LaunchFailed", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", Reason.INSUFFICIENT_CAPACITY),
        ("NodeClassNotReady", "resolving", Reason.NODE_CLASS_NOT_READY),
        ("LaunchFailed", "AuthorizationFailed: no right to write agentPools", Reason.LAUNCH_FAILED),
    ],
)  # fmt: skip
def test_the_clouds_own_words_become_a_reason(reason: str, message: str, expected: Reason) -> None:
    found = observed.claim(worlds.claim(failure=(reason, message)), UID).failure
    assert found is not None
    assert (found.reason, found.message) == (expected, message)
    assert found.elsewhere is (expected in (Reason.QUOTA_EXCEEDED, Reason.INSUFFICIENT_CAPACITY))


def test_what_still_waits_is_no_failure() -> None:
    assert observed.claim(worlds.claim(), UID).failure is None
    unknown = {"Launched": condition("Launched", "Unknown", "Other")}
    assert failures.of_claim(unknown) is None


def test_a_later_failure_is_the_nodes_and_not_the_clouds() -> None:
    assert observed.claim(worlds.claim(stage=1, failure=("NodeNotFound", "quota")), UID).failure is None


def test_request_ids_and_times_are_no_news() -> None:
    told = failures.plain("id 6f0c1c2e-5b0e-4b59-9d5e-0a4f6c1f7a11\n at 2026-11-28T09:00:00.12Z  end")
    assert told == "id … at … end"
    assert len(failures.plain("x" * 1000)) == failures.LONGEST


def test_a_node_shows_what_can_be_used() -> None:
    document = worlds.node("n", gpus=2, ready=False, since=5, unschedulable=True)
    found = observed.node(document)
    assert (found.name, found.gpus, found.ready, found.schedulable) == ("n", 2, False, False)
    assert found.since.second == 5
    assert observed.node(worlds.node("n", gpus=0)).gpus == 0


def test_a_node_that_is_being_deleted_is_not_ready() -> None:
    document = worlds.node("n")
    document["metadata"]["deletionTimestamp"] = worlds.at(1)
    assert not observed.node(document).ready


def test_pods_that_ended_keep_no_node() -> None:
    pods = [worlds.pod("a", "n"), worlds.pod("b", "n", phase="Failed"), worlds.pod("c")]
    assert observed.running(pods) == {"n": 1}


def test_broken_objects_are_read_as_empty_ones() -> None:
    found = observed.claim(
        {"metadata": {"name": "x", "labels": 3}, "status": [], "spec": {"requirements": [1]}}, UID
    )
    assert (found.name, found.stage, found.disk, found.ours) == ("x", Stage.ASKED, 0, False)
    assert observed.node({}).ready is False


def test_claims_have_a_fixed_order() -> None:
    both = (worlds.claim(1), worlds.claim(0, kind="Machine"), worlds.claim(0))
    names = [(one.kind, one.name) for one in observed.claims(Snapshot(worlds.workspace(), both))]
    assert names == [("Machine", "ws0x0"), ("NodeClaim", "ws0x0"), ("NodeClaim", "ws1x0")]


def test_a_machine_finds_its_node_by_the_providers_id() -> None:
    machine = worlds.claim(stage=3, node_name="")
    machine["status"] = {**machine["status"], "nodeName": None, "providerID": "azure:///vm-1"}
    node = {**worlds.node("gpu-1"), "spec": {"providerID": "azure:///vm-1"}}
    stranger = {**worlds.node("gpu-2"), "spec": {}}
    workspace = {"metadata": {"uid": UID}}
    [found] = observed.claims(Snapshot(workspace, claims=(machine,), nodes=(stranger, node)))
    assert found.node == "gpu-1"
    [alone] = observed.claims(Snapshot(workspace, claims=(worlds.claim(),), nodes=(stranger,)))
    assert alone.node == ""
