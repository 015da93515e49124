"""A Workspace with its plan, and the objects around it, as the cluster would show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from berth import catalog, labels, sizing, workspaces
from berth.fleet import Fleet

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
