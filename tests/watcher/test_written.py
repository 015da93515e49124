"""What we wrote stands until a watch is as far; what changed nothing wakes nobody."""

from __future__ import annotations

from typing import Any

import pytest

from kube.reflector import Change
from kube.resources import NODE_CLAIMS
from watcher import indices, trimming
from watcher.written import Written, as_new


def claim(version: str, uid: str = "one", **status: Any) -> dict[str, Any]:
    metadata = {"name": "c", "uid": uid, "resourceVersion": version}
    return {"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": metadata, "status": status}


def told(kind: Any, thing: dict[str, Any]) -> Change:
    return Change(kind, ("", "c"), thing, None)


@pytest.mark.parametrize(
    ("change", "echo", "stays"),
    [
        (told("ADDED", claim("10")), True, False),
        (told("MODIFIED", claim("9")), True, True),
        (told("MODIFIED", claim("11")), False, False),
        (told("DELETED", claim("12")), False, False),
        (told("DELETED", claim("8", uid="before")), False, True),
        (told("ADDED", claim("9", uid="another")), False, False),
        (told("MODIFIED", claim("opaque")), True, True),
    ],
    ids=[
        "our own write comes back",
        "something older comes late",
        "somebody wrote after us",
        "it was deleted",
        "its predecessor was deleted",
        "another one took its name",
        "a version that is no number is never newer",
    ],
)
def test_what_we_wrote_stands_until_a_watch_is_as_far(change: Change, echo: bool, stays: bool) -> None:
    written = Written()
    written.put(NODE_CLAIMS, claim("10"))
    assert written.seen(NODE_CLAIMS, change) is echo
    assert (written.get(NODE_CLAIMS, ("", "c")) is not None) is stays


def test_what_no_watch_shows_is_named_after_a_while() -> None:
    now = [0.0]
    written = Written(lambda: now[0])
    written.put(NODE_CLAIMS, claim("10"))
    now[0] = 4
    assert written.unseen(NODE_CLAIMS, 5) == []
    now[0] = 6
    assert written.unseen(NODE_CLAIMS, 5) == [("", "c")]
    written.drop(NODE_CLAIMS, ("", "c"))
    assert written.unseen(NODE_CLAIMS, 5) == []


def test_a_watch_may_be_faster_than_the_answer() -> None:
    assert as_new(claim("11"), claim("10"))
    assert as_new(claim("10"), claim("10"))
    assert not as_new(claim("9"), claim("10"))
    assert not as_new(claim("11", uid="before"), claim("10"))


def test_a_kubelets_heartbeat_is_no_change_and_a_lost_gpu_is_one() -> None:
    def node(beat: str, gpus: str) -> dict[str, Any]:
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": beat, "lastTransitionTime": "t"}
        status = {
            "conditions": [condition],
            "allocatable": {"nvidia.com/gpu": gpus},
            "images": [{"names": [beat]}],
        }
        metadata = {"name": "n", "resourceVersion": beat, "annotations": {"last": beat}}
        return trimming.node({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})

    assert not trimming.differs(node("1", "8"), node("2", "8"))
    assert trimming.differs(node("1", "8"), node("2", "7"))


def test_the_last_event_of_a_claims_pods_is_no_change() -> None:
    before = trimming.claim(claim("1", nodeName="n", lastPodEventTime="1"))
    assert not trimming.differs(before, trimming.claim(claim("2", nodeName="n", lastPodEventTime="2")))
    assert trimming.differs(before, trimming.claim(claim("2", nodeName="m", lastPodEventTime="2")))


def test_a_claim_leads_to_its_workspace_by_uid_by_name_and_by_pool() -> None:
    own = {"name": "falcon", "namespace": "ai", "uid": "u1"}
    asked = indices.asked_owners({"metadata": own})
    made = {
        "berth.dev/workspace-uid": "u1",
        "kaito.sh/workspace": "falcon",
        "kaito.sh/workspacenamespace": "ai",
    }
    pool = indices.pools({"metadata": own})[0]
    for labels in (made, {"karpenter.sh/nodepool": pool}):
        assert set(indices.owners({"metadata": {"labels": labels}})) <= set(asked)
    assert indices.owners({"metadata": {"labels": {"karpenter.sh/nodepool": "kaito"}}}) == []
    other = {"kaito.sh/workspace": "falcon", "kaito.sh/workspacenamespace": "other"}
    assert not set(indices.owners({"metadata": {"labels": other}})) & set(asked)


@pytest.mark.parametrize(
    "plan", [None, "{", "[]", '{"nodes": 1}'], ids=["none", "no JSON", "a list", "a number"]
)
def test_a_plan_that_cannot_be_read_asks_for_no_nodes(plan: str | None) -> None:
    annotations = {} if plan is None else {"berth.dev/plan": plan}
    assert indices.planned_labels({"metadata": {"annotations": annotations}}) == {}
