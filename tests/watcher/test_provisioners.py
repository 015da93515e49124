"""What each way to get nodes asks for, counts and says when it is closed."""

from __future__ import annotations

from typing import Any

import pytest

from berth import fleet as fleets
from berth import labels
from berth.fleet import Fleet
from tests.watcher import worlds
from tests.watcher.worlds import TYPE, UID
from watcher import observed, records
from watcher.provisioners import WAYS, Claims, existing
from watcher.reasons import Reason


def fleet(**fields: Any) -> Fleet:
    """A fleet file of these fields."""
    found, problems = fleets.read(fields)
    assert found is not None, problems
    return found


def claims(way: str) -> Claims:
    """The claims of a way that makes some."""
    found = WAYS[way].claims
    assert found is not None
    return found


def select(*nodes: dict[str, Any], count: int = 2, strict: bool = False, **fields: Any) -> list[str]:
    """The names of the existing nodes that count."""
    workspace = worlds.workspace(count, provisioning="none", **fields.pop("plan", {}))
    workspace["status"] = {"workerNodes": fields.pop("counted", [])}
    scene = worlds.scene(workspace, nodes=nodes, **fields)
    return [node.name for node in existing.select(scene, count, strict=strict)]


def test_a_node_claim_for_the_gpu_provisioner() -> None:
    scene = worlds.scene(worlds.workspace(disk=54 * 2**30 - 1))
    assert claims("nodeclaim").body(scene, 1, 2, "Standard_Other") == {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": records.name(UID, 1, 2),
            "labels": {
                "apps": "assistant",
                "kaito.sh/workspace": "assistant",
                "kaito.sh/workspacenamespace": "chat",
                "berth.dev/workspace-uid": UID,
                "karpenter.sh/nodepool": "kaito",
            },
            "annotations": {
                "berth.dev/index": "1",
                "berth.dev/attempt": "2",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": {
            "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
            "requirements": [
                {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["kaito"]},
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_Other"]},
                {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                {"key": "karpenter.azure.com/sku-name", "operator": "In", "values": ["Standard_Other"]},
            ],
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
            "resources": {"requests": {"storage": "54Gi"}},
            "expireAfter": "Never",
        },
    }


def test_karpenter_of_aws_is_asked_in_resources_that_it_knows() -> None:
    aws = fleet(cloud="aws")
    spec = claims("nodeclaim").body(worlds.scene(worlds.workspace(disk=2**30), fleet=aws), 0, 0, TYPE)["spec"]
    assert spec["resources"]["requests"] == {"ephemeral-storage": "1Gi", "nvidia.com/gpu": "1"}
    assert spec["nodeClassRef"]["kind"] == "EC2NodeClass"
    assert spec["requirements"][-1] == {
        "key": "karpenter.k8s.aws/instance-gpu-count", "operator": "Gt", "values": ["0"],
    }  # fmt: skip


def test_a_machine_is_what_kaito_made() -> None:
    body = claims("machine").body(worlds.scene(worlds.workspace(disk=0)), 0, 0, TYPE)
    name = body["metadata"]["name"]
    assert body["apiVersion"] == "karpenter.sh/v1alpha5"
    assert body["metadata"]["labels"]["karpenter.sh/provisioner-name"] == "default"
    assert body["spec"] == {
        "machineTemplateRef": {"name": name},
        "requirements": [
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [TYPE]},
            {"key": "karpenter.sh/provisioner-name", "operator": "In", "values": ["default"]},
            {"key": "kaito.sh/machine-type", "operator": "In", "values": ["gpu"]},
            {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
            {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
        ],
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        "resources": {"requests": {"storage": "0Gi"}},
    }


def test_labels_that_a_node_gives_itself_are_not_set() -> None:
    workspace = worlds.workspace(labels={"apps": "a", labels.HOSTNAME: "x", labels.INSTANCE_TYPE: "y"})
    tags = claims("nodeclaim").body(worlds.scene(workspace), 0, 0, TYPE)["metadata"]["labels"]
    assert tags["apps"] == "a"
    assert not {labels.HOSTNAME, labels.INSTANCE_TYPE} & set(tags)


@pytest.mark.parametrize("way", ["nodeclaim", "machine"])
def test_a_claim_that_is_made_fits(way: str) -> None:
    scene = worlds.scene()
    body = claims(way).body(scene, 0, 0, TYPE)
    body["metadata"]["uid"] = "x"
    assert claims(way).fits(scene, observed.claim(body, UID))


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        pytest.param({}, True, id="what the plan wants"),
        pytest.param({"instance_type": worlds.SPARE}, True, id="a fallback"),
        pytest.param({"instance_type": "Standard_Old"}, False, id="another instance type"),
        pytest.param({"kind": "Machine"}, False, id="another kind"),
        pytest.param({"tags": {"apps": "other"}}, False, id="another label"),
        pytest.param({"disk": "10Gi"}, False, id="a disk that is too small"),
        pytest.param({"disk": "52Gi"}, True, id="a disk that nearly does"),
    ],
)
def test_which_claims_the_plan_would_make_today(change: dict[str, Any], fits: bool) -> None:
    workspace = worlds.workspace(fallback_instance_types=(worlds.SPARE,), disk=54 * 2**30)
    found = observed.claim(worlds.claim(**change), UID)
    assert claims("nodeclaim").fits(worlds.scene(workspace), found) is fits


@pytest.mark.parametrize(
    ("way", "served", "using", "reason"),
    [
        ("nodeclaim", {}, fleet(), Reason.PROVISIONER_MISSING),
        ("nodeclaim", {"nodeclaim": None}, fleet(), Reason.PROVISIONER_MISSING),
        ("machine", {"nodeclaim": "karpenter.sh/v1"}, fleet(), Reason.PROVISIONER_MISSING),
        ("nodepool", {}, fleet(), Reason.PROVISIONER_MISSING),
        ("nodepool", worlds.SERVED, fleet(), Reason.NODE_POOL_MISSING),
        ("nodeclaim", worlds.SERVED, fleet(provisioning="machine"), Reason.NODE_CLASS_MISSING),
    ],
)
def test_a_closed_way_says_what_is_missing(way: str, served: Any, using: Fleet, reason: Reason) -> None:
    blocked = WAYS[way].blocked(worlds.scene(fleet=using, served=served))
    assert blocked is not None
    assert blocked.reason == reason


@pytest.mark.parametrize("way", ["nodeclaim", "machine", "none"])
def test_an_open_way_says_nothing(way: str) -> None:
    assert WAYS[way].blocked(worlds.scene()) is None


@pytest.mark.parametrize(
    ("node", "counts"),
    [
        pytest.param({}, True, id="ready, with its GPU"),
        pytest.param({"instance_type": None}, True, id="without an instance type"),
        pytest.param({"instance_type": "Standard_Other"}, False, id="of another instance type"),
        pytest.param({"ready": False}, False, id="not ready"),
        pytest.param({"gpus": 0}, False, id="without a GPU"),
        pytest.param({"unschedulable": True}, False, id="cordoned"),
        pytest.param({"apps": "other"}, False, id="of another label"),
        pytest.param({"karpenter.sh/nodepool": "shared"}, False, id="of somebody's NodePool"),
        pytest.param({"karpenter.sh/nodepool": "kaito"}, True, id="made by KAITO"),
        pytest.param({"kaito.sh/workspace": "other"}, False, id="of another Workspace of KAITO"),
        pytest.param({"kaito.sh/workspacenamespace": "other"}, False, id="of another namespace"),
        pytest.param({"berth.dev/workspace-uid": UID}, False, id="of a claim of ours that is going"),
    ],
)
def test_which_existing_nodes_count(node: dict[str, Any], counts: bool) -> None:
    assert select(worlds.node("n", **node)) == (["n"] if counts else [])


def test_pods_of_made_nodes_ask_for_the_instance_type_so_a_node_without_it_does_not_count() -> None:
    assert select(worlds.node("n", instance_type=None), strict=True) == []


def test_a_node_of_another_workspace_is_never_counted() -> None:
    assert select(worlds.node("a"), worlds.node("b"), taken={"a": "other"}) == ["b"]


def test_preferred_nodes_come_first_then_those_with_pods_then_those_counted_before() -> None:
    nodes = [worlds.node(name) for name in "abcd"]
    found = select(
        *nodes, count=4, plan={"preferred": ("d",)}, pods=(worlds.pod(node_name="c"),), counted=["b"]
    )
    assert found == ["d", "c", "b", "a"]
    assert select(*nodes, count=1) == ["a"]


def test_a_counted_node_may_be_away_for_ten_minutes() -> None:
    away = worlds.node("n", ready=False, since=0)
    assert select(away, counted=["n"], after_s=599) == ["n"]
    assert select(away, counted=["n"], after_s=600) == []


def test_a_counted_node_stays_when_it_is_cordoned_or_loses_a_gpu() -> None:
    assert select(worlds.node("n", gpus=0, unschedulable=True), counted=["n"]) == ["n"]


@pytest.mark.parametrize(
    ("operator", "values", "counts"),
    [
        ("In", ["v"], True), ("In", ["w"], False), ("NotIn", ["w"], True), ("NotIn", ["v"], False),
        ("Exists", [], True), ("DoesNotExist", [], False),
    ],
)  # fmt: skip
def test_expressions_of_the_selector_count(operator: str, values: list[str], counts: bool) -> None:
    document = worlds.spec()
    expression: dict[str, Any] = {"key": "zone", "operator": operator}
    document["resource"]["labelSelector"]["matchExpressions"] = [
        {**expression, "values": values} if values else expression
    ]
    plan = worlds.plan_of(document, Fleet(), provisioning="none")
    document["metadata"] |= {"uid": UID, "annotations": {labels.PLAN: plan.dumps()}}
    scene = worlds.scene(document, nodes=(worlds.node("n", zone="v"),))
    assert [node.name for node in existing.select(scene, 1, strict=False)] == (["n"] if counts else [])


def pool(ready: str = "True", **spec: Any) -> dict[str, Any]:
    """The NodePool of the Workspace."""
    name = worlds.scene().reading.node_pool
    status = {"conditions": [worlds.condition("Ready", ready, "NodeClassNotReady", "no such class")]}
    return {"kind": "NodePool", "metadata": {"name": name}, "spec": spec, "status": status}


def test_karpenter_may_not_take_a_node_pool() -> None:
    blocked = WAYS["nodepool"].blocked(worlds.scene(node_pools=(pool("False"),)))
    assert blocked is not None
    assert blocked.reason == Reason.NODE_POOL_NOT_READY
    assert "no such class" in blocked.message
    assert WAYS["nodepool"].blocked(worlds.scene(node_pools=(pool(),))) is None


def test_a_dynamic_node_pool_needs_what_the_replicas_fill() -> None:
    workspace = worlds.workspace(3)
    plan = worlds.scene(workspace).reading.plan
    assert plan is not None
    notes = workspace["metadata"]["annotations"]
    notes[labels.PLAN] = plan.model_copy(update={"replicas": 1}).dumps()
    assert WAYS["nodepool"].needed(worlds.scene(workspace, node_pools=(pool(),))) == 1
    assert WAYS["nodepool"].needed(worlds.scene(workspace, node_pools=(pool(replicas=3),))) == 3


def test_only_the_nodes_of_the_node_pool_count() -> None:
    own: dict[str, Any] = {labels.NODE_POOL: worlds.scene().reading.node_pool}
    nodes = (worlds.node("a", **own), worlds.node("b", **own), worlds.node("c"))
    scene = worlds.scene(nodes=nodes, pods=(worlds.pod(node_name="b"),), node_pools=(pool(),))
    assert [node.name for node in WAYS["nodepool"].given(scene, 9)] == ["b", "a"]
