"""A Workspace with its plan, and the objects around it, as the cluster would show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from berth import catalog, labels, sizing, workspaces
from berth.fleet import Fleet
from watcher.scene import Scene
from watcher.world import Snapshot

if TYPE_CHECKING:
    from berth.plans import Plan

Object = dict[str, Any]

UID = "6f0c1c2e-5b0e-4b59-9d5e-0a4f6c1f7a11"
NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
TYPE = "Standard_NC4as_T4_v3"
SPARE = "Standard_NC8as_T4_v3"


def at(seconds: float) -> str:
    """A time so many seconds after the beginning, as objects carry it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def spec(count: int = 1, instance_type: str | None = TYPE, name: str = "assistant") -> Object:
    """A Workspace as people write it."""
    resource: Object = {"count": count, "labelSelector": {"matchLabels": {"apps": name}}}
    if instance_type is not None:
        resource["instanceType"] = instance_type
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "namespace": "chat"},
        "resource": resource,
        "inference": {"preset": {"name": "qwen3-8b"}},
    }


def plan_of(document: Object, fleet: Fleet, **nodes: Any) -> Plan:
    """The plan that `berth render` would write, with some of its node request set otherwise."""
    plan = sizing.decide(workspaces.parse(document), catalog.load(), fleet).plan
    return plan.model_copy(update={"nodes": plan.nodes.model_copy(update=nodes)})


def workspace(
    count: int = 1,
    *,
    fleet: Fleet | None = None,
    instance_type: str | None = TYPE,
    status: Object | None = None,
    annotations: dict[str, str] | None = None,
    **nodes: Any,
) -> Object:
    """A rendered Workspace in the cluster."""
    document = spec(count, instance_type)
    plan = plan_of(document, fleet or Fleet(), **nodes)
    document["metadata"] |= {
        "uid": UID,
        "generation": 2,
        "resourceVersion": "1",
        "creationTimestamp": at(-60),
        "annotations": {labels.PLAN: plan.dumps(), **(annotations or {})},
    }
    if status is not None:
        document["status"] = status
    return document


def condition(
    kind: str, status: str = "True", reason: str = "", message: str = "", since: float = 0
) -> Object:
    """A condition of a claim, a node, a pod or a workload."""
    return {
        "type": kind,
        "status": status,
        "reason": reason or kind,
        "message": message,
        "lastTransitionTime": at(since),
    }


def node(
    name: str,
    *,
    ready: bool = True,
    gpus: int = 1,
    instance_type: str | None = TYPE,
    since: float = 0,
    unschedulable: bool = False,
    **tags: str,
) -> Object:
    """A node with the Workspace's own label."""
    tags = {"apps": "assistant", **tags}
    if instance_type is not None:
        tags[labels.INSTANCE_TYPE] = instance_type
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-of-{name}", "labels": tags, "creationTimestamp": at(0)},
        "spec": {"unschedulable": True} if unschedulable else {},
        "status": {
            "allocatable": {labels.GPU_RESOURCE: str(gpus)} if gpus else {},
            "conditions": [condition("Ready", "True" if ready else "False", "Kubelet", since=since)],
        },
    }


def claim(
    index: int = 0,
    attempt: int = 0,
    *,
    stage: int = 0,
    instance_type: str = TYPE,
    kind: str = "NodeClaim",
    made_s: float = 0,
    failure: tuple[str, str] | None = None,
    node_name: str = "",
    terminating: bool = False,
    uid: str | None = UID,
    tags: dict[str, str] | None = None,
    disk: str = "2000Gi",
) -> Object:
    """A claim that has come so far: 0 asked, 1 launched, 2 registered, 3 ready."""
    prefix = "Machine" if kind == "Machine" else ""
    name = f"ws{index}x{attempt}"
    found = []
    for number, step in enumerate(("Launched", "Registered", "Initialized")):
        if stage > number:
            found.append(condition(prefix + step))
        elif failure is not None and stage == number:
            found.append(condition(prefix + step, "False", *failure))
        elif stage == number:
            found.append(condition(prefix + step, "Unknown", "AwaitingReconciliation", "object is awaiting"))
    if stage == 3:
        found.append(condition("Ready"))
    own = {
        "apps": "assistant",
        labels.WORKSPACE: "assistant",
        labels.WORKSPACE_NAMESPACE: "chat",
        **(tags or {}),
    }
    meta: Object = {
        "name": name,
        "uid": f"uid-of-{name}",
        "labels": own | ({labels.WORKSPACE_UID: uid} if uid else {}),
        "annotations": {labels.INDEX: str(index), labels.ATTEMPT: str(attempt)} if uid else {},
        "creationTimestamp": at(made_s),
    }
    if terminating:
        meta["deletionTimestamp"] = at(made_s + 60)
    return {
        "apiVersion": "karpenter.sh/v1alpha5" if kind == "Machine" else "karpenter.sh/v1",
        "kind": kind,
        "metadata": meta,
        "spec": {
            "requirements": [
                {"key": labels.INSTANCE_TYPE, "operator": "In", "values": [instance_type]},
            ],
            "resources": {"requests": {"storage": disk}},
        },
        "status": {"conditions": found, **({"nodeName": node_name} if node_name else {})},
    }


def pod(name: str = "assistant-0", node_name: str = "", *, ready: bool = False, **status: Any) -> Object:
    """A pod of the Workspace."""
    found: Object = {"phase": "Running" if node_name else "Pending", **status}
    found.setdefault("conditions", [condition("Ready", "True" if ready else "False")])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "chat", "labels": {labels.WORKSPACE: "assistant"}},
        "spec": {"nodeName": node_name} if node_name else {},
        "status": found,
    }


SERVED = {"nodeclaim": "karpenter.sh/v1", "machine": "karpenter.sh/v1alpha5", "nodepool": "karpenter.sh/v1"}


def scene(
    workspace_: Object | None = None, *, fleet: Fleet | None = None, after_s: float = 0, **fields: Any
) -> Scene:
    """A scene; the cluster serves everything unless it is said otherwise."""
    fields.setdefault("served", SERVED)
    snapshot = Snapshot(workspace_ if workspace_ is not None else workspace(fleet=fleet), **fields)
    return Scene(snapshot, fleet or Fleet(), NOW + timedelta(seconds=after_s))
