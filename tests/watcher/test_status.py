"""What stands on the Workspace: counts, conditions with their reasons, the endpoint, a pod's trouble."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from berth import labels
from generator import crd
from tests.watcher import worlds
from tests.watcher.worlds import TYPE, condition
from watcher import moves, status
from watcher.reasons import MEANINGS, Reason
from watcher.world import Price, Rails

RAILS = Rails(prices={TYPE: Price(1, 0.5)})
SCHEMA = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


def closed(schema: Any) -> Any:
    """The schema without room for fields that the API server would drop."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    return {**found, "additionalProperties": False} if "properties" in schema else found


def workload(workspace: worlds.Object, *, ready: int = 1, replicas: int = 1, **fields: Any) -> worlds.Object:
    """The Workspace's Deployment with the plan's settings."""
    plan = worlds.scene(workspace).reading.plan
    assert plan is not None
    counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": ready}
    return {
        "kind": "Deployment",
        "metadata": {
            "name": "assistant",
            "generation": 1,
            "annotations": {labels.SERVER_DIGEST: fields.pop("digest", plan.server_digest)},
            "labels": fields.pop("tags", {}),
        },
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, **counts, **fields},
    }


def service(**more: Any) -> worlds.Object:
    """The Workspace's Service."""
    return {"kind": "Service", "metadata": {"name": "assistant"}, "spec": {"ports": [{"port": 80}]}, **more}


def seen(workspace: worlds.Object | None = None, rails: Rails = RAILS, **fields: Any) -> worlds.Object:
    """The status after one look; it is always what the CRD takes."""
    scene = worlds.scene(workspace, **fields)
    found = status.of(scene, moves.plan(scene, rails), rails)
    jsonschema.validate(found, closed(SCHEMA))
    return found


def told(found: worlds.Object, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of one condition."""
    for one in found["conditions"]:
        if one["type"] == kind:
            return one["status"], one["reason"], one["message"]
    return "", "", ""


def healthy(workspace: worlds.Object, **fields: Any) -> dict[str, Any]:
    """A claim, its node and a pod that answers."""
    return {
        "claims": (worlds.claim(stage=3, node_name="n0"),),
        "nodes": (worlds.node("n0"),),
        "pods": (worlds.pod(node_name="n0", ready=True),),
        "workloads": (workload(workspace),),
        "services": (service(),),
        **fields,
    }


def test_a_workspace_that_answers() -> None:
    workspace = worlds.workspace()
    found = seen(workspace, **healthy(workspace))
    assert told(found, "NodeClaimReady") == ("True", "NodesReady", "1 of 1 NodeClaims are ready")
    assert told(found, "ResourceReady") == ("True", "NodesReady", "1 of 1 nodes are ready")
    assert told(found, "InferenceReady") == ("True", "PodsReady", "1 of 1 replicas answer")
    assert (
        told(found, "WorkspaceReady") == told(found, "Ready") == ("True", "Ready", "1 of 1 replicas answer")
    )
    assert told(found, "Reconciling") == ("False", "Ready", "")
    assert told(found, "Stalled") == ("False", "Ready", "")
    assert found["workerNodes"] == ["n0"]
    assert (found["targetNodeCount"], found["replicas"], found["readyReplicas"]) == (1, 1, 1)
    assert (found["instanceType"], found["endpoint"]) == (TYPE, "http://assistant.chat.svc")
    assert {one["observedGeneration"] for one in found["conditions"]} == {found["observedGeneration"]} == {2}


def test_a_new_workspace() -> None:
    found = seen()
    assert told(found, "NodeClaimReady") == ("False", "NodesMissing", "0 of 1 NodeClaims are ready")
    assert told(found, "Ready") == ("False", "NodesMissing", "0 of 1 nodes are ready")
    assert told(found, "Reconciling") == ("True", "NodesMissing", f"waiting for 1 node of {TYPE}")
    assert told(found, "Stalled") == ("False", "Progressing", "")
    assert told(found, "InferenceReady")[1] == "WorkloadMissing"


def test_without_a_plan() -> None:
    workspace = worlds.workspace()
    del workspace["metadata"]["annotations"][labels.PLAN]
    found = seen(workspace, claims=(worlds.claim(stage=3),))
    for kind in ("ResourceReady", "InferenceReady", "WorkspaceReady", "Ready"):
        assert told(found, kind)[:2] == ("False", "NotRendered")
    assert told(found, "NotRendered") == told(found, "Stalled")
    assert told(found, "Stalled") == (
        "True", "NotRendered", "no plan: run `berth render` and commit its output",
    )  # fmt: skip
    assert told(found, "Reconciling") == ("False", "NotRendered", "")


def test_with_a_stale_plan_what_runs_is_still_told() -> None:
    workspace = worlds.workspace()
    workloads = healthy(workspace)
    workspace["resource"]["count"] = 2
    found = seen(workspace, **workloads)
    assert told(found, "ResourceReady")[0] == told(found, "InferenceReady")[0] == "True"
    assert told(found, "Ready")[1] == told(found, "Stalled")[1] == "NotRendered"


def test_a_machine_has_its_own_condition() -> None:
    workspace = worlds.workspace(provisioning="machine")
    found = seen(
        workspace, **healthy(workspace, claims=(worlds.claim(stage=3, kind="Machine", node_name="n0"),))
    )
    assert told(found, "MachineReady")[:2] == ("True", "NodesReady")
    assert told(found, "NodeClaimReady") == ("", "", "")


def test_existing_nodes_are_waited_for_by_their_labels() -> None:
    found = seen(worlds.workspace(2, provisioning="none"), nodes=(worlds.node("a"),))
    assert told(found, "NodeClaimReady") == ("", "", "")
    assert told(found, "ResourceReady")[2] == "1 of 2 nodes are ready"
    assert told(found, "Reconciling")[2] == f"waiting for 1 node of {TYPE} with apps=assistant"
    assert found["workerNodes"] == ["a"]


@pytest.mark.parametrize(
    ("nodes", "reason", "message"),
    [
        pytest.param(
            (worlds.node("n0", gpus=0),), "GpusMissing", "node n0 shows 0 of 1 GPUs", id="a GPU failed"
        ),
        pytest.param(
            (worlds.node("n0", ready=False),), "NodesNotReady", "node n0 is not ready", id="not ready"
        ),
        pytest.param((), "NodeLost", "node n0 of NodeClaim ws0x0 is gone", id="gone"),
    ],
)
def test_drift_of_a_node_is_told(nodes: tuple[Any, ...], reason: str, message: str) -> None:
    workspace = worlds.workspace()
    workspace["status"] = seen(workspace, **healthy(workspace))
    found = seen(workspace, **healthy(workspace, nodes=nodes))
    assert told(found, "ResourceReady") == ("False", reason, f"0 of 1 nodes are ready: {message}")
    assert told(found, "Ready")[:2] == ("False", reason)
    assert told(found, "InferenceReady")[0] == "True"


def test_a_node_that_was_never_seen_is_not_lost() -> None:
    workspace = worlds.workspace()
    assert told(seen(workspace, **healthy(workspace, nodes=())), "Ready")[1] == "NodesMissing"


def test_a_cloud_that_says_no() -> None:
    failing = worlds.claim(failure=("LaunchFailed", "no right to make agent pools"))
    found = seen(claims=(failing,))
    why = "no right to make agent pools"
    assert told(found, "NodeClaimReady") == ("False", "LaunchFailed", f"0 of 1 NodeClaims are ready: {why}")
    assert told(found, "Ready")[1] == "LaunchFailed"
    assert told(found, "Stalled")[0] == "False"
    assert found["nodes"][0]["phase"] == "Failing"


def test_what_fails_three_times_is_stalled_and_goes_on() -> None:
    entry = {"index": 0, "attempt": 3, "failures": 3, "reason": "QuotaExceeded", "message": "no quota"}
    found = seen(worlds.workspace(status={"nodes": [{**entry, "retryAt": worlds.at(900)}]}))
    assert told(found, "Stalled") == (
        "True", "QuotaExceeded", "failed 3 times and is tried again: no quota",
    )  # fmt: skip
    assert told(found, "Reconciling")[0] == "False"
    assert told(seen(worlds.workspace(status={"nodes": [{**entry, "failures": 2}]})), "Stalled")[0] == "False"


def test_nobody_takes_up_the_claim() -> None:
    silent = worlds.claim()
    del silent["status"]
    found = seen(claims=(silent,), after_s=120)
    assert told(found, "NodeClaimReady")[1] == "ProvisionerSilent"
    assert told(seen(claims=(silent,), after_s=119), "NodeClaimReady")[1] == "NodesMissing"


def container(name: str = "server", **state: Any) -> dict[str, Any]:
    """A container's status."""
    return {"name": name, "image": "image:1", "ready": False, **state}


WAITING = {
    "containerStatuses": [container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no"}})]
}


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        pytest.param(
            WAITING, "ImagePullError", "container server of pod p cannot pull image:1: no", id="no image"
        ),
        pytest.param(
            {"containerStatuses": [container(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            )]},
            "ContainerOOMKilled",
            "container server of pod p took more host memory than it may and was killed",
            id="no memory",
        ),
        pytest.param(
            {"containerStatuses": [container(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"reason": "Error", "exitCode": 1, "message": "no such file"}},
            )]},
            "ContainerCrashLoopBackOff", "container server of pod p stops with exit code 1: no such file",
            id="crash loop",
        ),
        pytest.param(
            {"initContainerStatuses": [container("weights", state={"terminated": {"exitCode": 2}})]},
            "ContainerCrashLoopBackOff", "container weights of pod p stops with exit code 2",
            id="init container fails",
        ),
        pytest.param(
            {"containerStatuses": [container(
                state={"waiting": {"reason": "CreateContainerConfigError", "message": "no secret x"}},
            )]},
            "ContainerStartError", 'container server of pod p cannot be started: no secret x',
            id="no secret",
        ),
        pytest.param(
            {"phase": "Pending", "conditions": [
                condition("PodScheduled", "False", "Unschedulable", "0/3 nodes are available."),
            ]},
            "Unschedulable", "pod p fits no node: 0/3 nodes are available", id="unschedulable",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on disk."},
            "PodEvicted", "pod p was evicted: The node was low on disk", id="evicted",
        ),
        pytest.param(
            {"initContainerStatuses": [container("weights", state={"running": {}})]},
            "PodsNotReady", "pod p fetches its weights", id="weights are fetched",
        ),
        pytest.param({}, "PodsNotReady", "", id="still starting"),
        pytest.param(
            {"initContainerStatuses": [container("weights", state={"terminated": {"exitCode": 0}})]},
            "PodsNotReady", "", id="an init container that ended well",
        ),
    ],
)  # fmt: skip
def test_why_a_replica_does_not_answer(fields: dict[str, Any], reason: str, message: str) -> None:
    workspace = worlds.workspace()
    pod = worlds.pod("p", "n0", **fields)
    found = seen(workspace, **healthy(workspace, pods=(pod,), workloads=(workload(workspace, ready=0),)))
    counted = "0 of 1 replicas answer"
    assert told(found, "InferenceReady") == ("False", reason, f"{counted}: {message}" if message else counted)
    assert told(found, "Reconciling") == ("True", *told(found, "InferenceReady")[1:])


def test_without_nodes_a_pod_that_waits_is_nothing_new() -> None:
    workspace = worlds.workspace()
    waits = worlds.pod("p", conditions=[condition("PodScheduled", "False", "Unschedulable", "none")])
    found = seen(workspace, pods=(waits,), workloads=(workload(workspace, ready=0),))
    assert told(found, "InferenceReady")[1] == "PodsNotReady"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"digest": "sha256:of-another-plan"}, "RollingOut", id="the workload of another plan"),
        pytest.param({"observedGeneration": 0}, "PodsNotReady", id="a status that is behind"),
        pytest.param({"updatedReplicas": 0}, "PodsNotReady", id="pods that are still the old ones"),
        pytest.param({"tags": {labels.ROLE: "worker"}}, "PodsNotReady", id="a worker alone answers nothing"),
        pytest.param(
            {"conditions": [condition("ReplicaFailure", message="quota")], "ready": 0},
            "PodsRefused",
            id="refused",
        ),
    ],
)
def test_replicas_that_do_not_count(fields: dict[str, Any], reason: str) -> None:
    workspace = worlds.workspace()
    found = seen(workspace, **healthy(workspace, workloads=(workload(workspace, **fields),)))
    assert told(found, "InferenceReady")[:2] == ("False", reason)


@pytest.mark.parametrize(
    ("role", "ready", "digest", "answers"),
    [
        pytest.param("leader", True, None, True, id="a leader that answers"),
        pytest.param("leader", False, None, False, id="a leader that starts"),
        pytest.param("leader", True, "sha256:other", False, id="a leader of another plan"),
        pytest.param("worker", True, None, False, id="a worker"),
    ],
)
def test_where_another_controller_makes_the_pods_leaders_count(
    role: str, ready: bool, digest: str | None, answers: bool
) -> None:
    workspace = worlds.workspace()
    plan = worlds.scene(workspace).reading.plan
    assert plan is not None
    pod = worlds.pod("p", "n0", ready=ready)
    pod["metadata"]["labels"][labels.ROLE] = role
    pod["metadata"]["annotations"] = {labels.SERVER_DIGEST: digest or plan.server_digest}
    found = seen(workspace, **healthy(workspace, pods=(pod,), workloads=()))
    assert told(found, "InferenceReady")[0] == str(answers)


def test_a_deployment_without_progress_stalls() -> None:
    workspace = worlds.workspace()
    late = condition("Progressing", "False", "ProgressDeadlineExceeded", "timed out progressing")
    found = seen(
        workspace, **healthy(workspace, workloads=(workload(workspace, ready=0, conditions=[late]),))
    )
    assert told(found, "Stalled") == (
        "True", "PodsNotReady", "0 of 1 replicas answer; timed out progressing",
    )  # fmt: skip


ROUTE = {"hostnames": ["ai.example.com"], "parentRefs": [{"name": "gateway", "sectionName": "https"}]}
RULE = {"host": "ai.example.com", "http": {"paths": [{"path": "/chat/"}]}}


@pytest.mark.parametrize(
    ("service_fields", "routes", "url"),
    [
        pytest.param({}, (), "http://assistant.chat.svc", id="inside the cluster"),
        pytest.param({"spec": {"ports": [{"port": 8000}]}}, (), "http://assistant.chat.svc:8000",
                     id="a port"),
        pytest.param({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}, (), "http://1.2.3.4",
                     id="IP"),
        pytest.param(
            {"status": {"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}}}, (), "http://[2001:db8::1]",
            id="IPv6",
        ),
        pytest.param(
            {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}}, (),
            "http://lb.example.com", id="a balancer with a name",
        ),
        pytest.param(
            {}, ({"kind": "Ingress", "metadata": {"name": "a"}, "spec": {"rules": [RULE]}},),
            "http://ai.example.com/chat", id="an Ingress",
        ),
        pytest.param(
            {}, ({"kind": "Ingress", "metadata": {"name": "a"},
                  "spec": {"rules": [RULE], "tls": [{"hosts": ["ai.example.com"]}]}},),
            "https://ai.example.com/chat", id="an Ingress with TLS",
        ),
        pytest.param(
            {}, ({"kind": "HTTPRoute", "metadata": {"name": "a"}, "spec": ROUTE},),
            "https://ai.example.com", id="an HTTPRoute",
        ),
    ],
)  # fmt: skip
def test_the_endpoint(service_fields: dict[str, Any], routes: tuple[Any, ...], url: str) -> None:
    assert seen(services=(service(**service_fields),), ingresses=routes)["endpoint"] == url


def test_without_a_service_there_is_no_endpoint() -> None:
    assert "endpoint" not in seen()


def later(workspace: worlds.Object, found: worlds.Object, **fields: Any) -> worlds.Object:
    """The status of another look a minute later."""
    return seen({**workspace, "status": found}, after_s=60, **fields)


def test_the_same_look_gives_the_same_status() -> None:
    workspace = worlds.workspace()
    fields = healthy(workspace)
    found = seen(workspace, **fields)
    again = later(workspace, found, **fields)
    assert status.patch(found, again) == {}


def test_a_transition_time_moves_only_with_the_status() -> None:
    workspace = worlds.workspace()
    fields = healthy(workspace)
    found = seen(workspace, **fields)
    again = later(workspace, found, **{**fields, "nodes": (worlds.node("n0", gpus=0),)})
    moved = {one["type"] for one in again["conditions"] if one["lastTransitionTime"] == worlds.at(60)}
    assert moved == {"ResourceReady", "WorkspaceReady", "Ready", "Reconciling"}


def test_a_merge_patch_takes_away_what_is_no_longer_said() -> None:
    assert status.patch({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5}) == {"b": 5, "c": None}


def test_every_reason_has_its_words() -> None:
    assert set(MEANINGS) == set(Reason)
    assert all(one.means.endswith(".") and one.do.endswith(".") for one in MEANINGS.values())
