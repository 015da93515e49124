"""A Karpenter NodePool in git: nodes come with the pods, up to the plan's GPUs and no further."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels, names
from berth.quantities import GIB
from generator.charts import placing

if TYPE_CHECKING:
    from generator.charts.frames import Frame, Object

_IDLE_SECONDS = "600s"
"""A node without pods stays this long: longer than a rollout's gap, so that a restart keeps its node."""


def node_pool(frame: Frame) -> Object:
    """Return the NodePool of the Workspace's own nodes.

    Dynamic with limits by default. Static capacity (`replicas`) only if the fleet asks for it, since
    Karpenter keeps that behind a feature gate; whether it is set can't be changed later.
    """
    nodes = frame.plan.nodes
    spec: Object = {"template": _template(frame)}
    static = frame.fleet.node_pool.static_capacity
    if static:
        spec["replicas"] = nodes.count
        spec["limits"] = {"nodes": str(nodes.count)}
    elif nodes.gpus_per_node:
        spec["limits"] = {labels.GPU_RESOURCE: str(nodes.count * nodes.gpus_per_node)}
    spec["disruption"] = {
        "consolidationPolicy": "WhenEmpty",
        "consolidateAfter": "Never" if static else _IDLE_SECONDS,
        "budgets": [{"nodes": "1"}],
    }
    name = names.of_cluster(frame.namespace, frame.workspace.name)
    return frame.object("karpenter.sh/v1", "NodePool", name, namespaced=False, spec=spec)


def _template(frame: Frame) -> Object:
    own = {labels.WORKSPACE: frame.name, **frame.plan.nodes.labels}
    if frame.namespace is not None:
        own[labels.WORKSPACE_NAMESPACE] = frame.namespace
    spec: Object = {
        "requirements": _requirements(frame),
        "taints": [{"key": labels.GPU_TAINT_KEY, "value": labels.GPU_TAINT_VALUE, "effect": "NoSchedule"}],
        "expireAfter": "Never",
    }
    node_class = frame.fleet.new_node_class
    if node_class is not None:
        spec["nodeClassRef"] = {
            "group": node_class.group,
            "kind": node_class.kind,
            "name": node_class.name,
        }
    return {"metadata": {"labels": own, "annotations": _node_annotations(frame)}, "spec": spec}


def _node_annotations(frame: Frame) -> dict[str, str]:
    """The disk that images and weights need, for the node class's owner: a NodePool can't size a disk."""
    return {"berth.dev/node-disk-gib": str(-(-frame.plan.nodes.disk // GIB))}


def _requirements(frame: Frame) -> list[Object]:
    found: list[Object] = [
        {"key": labels.INSTANCE_TYPE, "operator": "In", "values": placing.instance_types(frame)},
        {
            "key": "karpenter.sh/capacity-type",
            "operator": "In",
            "values": list(frame.fleet.node_pool.capacity_types),
        },
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
    ]
    taken = {requirement["key"] for requirement in found} | set(frame.plan.nodes.labels)
    for one in frame.workspace.resource.match_expressions:
        if one.key not in taken:
            found.append(placing.expression(one.key, one.operator, one.values))
    return found
