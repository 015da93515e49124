"""Which nodes a pod may run on: affinity from the selector and the plan, and tolerations of GPU nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels, names
from generator.charts import shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from generator.charts.frames import Frame, Object

GPU_TOLERATIONS: tuple[dict[str, str], ...] = (
    {
        "key": labels.GPU_TAINT_KEY,
        "operator": "Equal",
        "value": labels.GPU_TAINT_VALUE,
        "effect": "NoSchedule",
    },
    {"key": labels.GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"},
    {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
)
"""The taints of KAITO's nodes, of the NVIDIA GPU Operator and of KAITO's first examples."""

NODE_POOL = "karpenter.sh/nodepool"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_PREFERRED_NODE_WEIGHT = 100
_INSTANCE_TYPE_WEIGHT = 50


def requirements(frame: Frame) -> list[Object]:
    """Return what a node must show to run the Workspace's pods, as node selector requirements."""
    resource = frame.workspace.resource
    found = [_within(key, [value]) for key, value in sorted(resource.match_labels.items())]
    found += [expression(one.key, one.operator, one.values) for one in resource.match_expressions]
    nodes = frame.plan.nodes
    if nodes.provisioning == "nodepool" and nodes.instance_type is not None:
        found.append(_within(NODE_POOL, [names.of_cluster(frame.namespace, frame.workspace.name)]))
    if nodes.provisioning != "none" and nodes.instance_type is not None:
        found.append(_within(labels.INSTANCE_TYPE, instance_types(frame)))
    return found


def instance_types(frame: Frame) -> list[str]:
    """Return every instance type for which the plan is valid, the preferred one first."""
    nodes = frame.plan.nodes
    return [name for name in (nodes.instance_type, *nodes.fallback_instance_types) if name is not None]


def expression(key: str, operator: str, values: Iterable[str]) -> Object:
    """Return one node selector requirement; `Exists` and `DoesNotExist` take no values."""
    found: Object = {"key": key, "operator": operator}
    listed = list(values)
    if listed:
        found["values"] = listed
    return found


def affinity(frame: Frame) -> Object:
    """Return the pod's affinity.

    On nodes that berth had made, the instance type is required, since the plan is valid for no other. Nodes
    that were there before may lack the label (bare metal does), so there it is a preference.
    """
    required, preferred = requirements(frame), []
    nodes = frame.plan.nodes
    if nodes.preferred:
        preferred.append(_preference(_PREFERRED_NODE_WEIGHT, _within(labels.HOSTNAME, list(nodes.preferred))))
    if nodes.provisioning == "none" and nodes.instance_type is not None:
        preferred.append(
            _preference(_INSTANCE_TYPE_WEIGHT, _within(labels.INSTANCE_TYPE, instance_types(frame)))
        )
    node: Object = {}
    if required:
        node[_REQUIRED] = {"nodeSelectorTerms": [{"matchExpressions": required}]}
    if preferred:
        node[_PREFERRED] = preferred
    return {"nodeAffinity": node} if node else {}


def merged_affinity(own: Mapping[str, Any], ours: Object) -> Object:
    """Return a user's affinity narrowed by ours: nothing of the user's is lost.

    Terms of a node selector are alternatives, so our requirements join every one of them.

    Raises:
        TemplateError: a part of the user's is not of the type that Kubernetes knows.
    """
    merged = dict(own)
    if not ours:
        return merged
    node = dict(shapes.mapping(own, "nodeAffinity", "spec.affinity"))
    our_node = ours["nodeAffinity"]
    if _REQUIRED in our_node:
        required = shapes.mapping(node, _REQUIRED, "spec.affinity.nodeAffinity")
        expressions = our_node[_REQUIRED]["nodeSelectorTerms"][0]["matchExpressions"]
        terms = shapes.items(required, "nodeSelectorTerms", f"spec.affinity.nodeAffinity.{_REQUIRED}") or [{}]
        node[_REQUIRED] = {**required, "nodeSelectorTerms": [_narrowed(term, expressions) for term in terms]}
    if _PREFERRED in our_node:
        preferred = shapes.items(node, _PREFERRED, "spec.affinity.nodeAffinity")
        node[_PREFERRED] = joined(preferred, our_node[_PREFERRED])
    return {**merged, "nodeAffinity": node}


def _narrowed(term: Any, expressions: list[Object]) -> Object:
    place = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms[]"
    if not isinstance(term, dict):
        raise shapes.wrong(place, term, "a mapping")
    own = shapes.items(term, "matchExpressions", place)
    return {**term, "matchExpressions": joined(own, expressions)}


def tolerations(frame: Frame) -> list[Object]:
    """Return the tolerations of GPU nodes and those that fleet and Workspace add."""
    return joined([dict(one) for one in GPU_TOLERATIONS], [dict(one) for one in frame.pod.tolerations])


def joined(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Return both lists one after the other, without what is there already."""
    found = list(first)
    found += [item for item in second if item not in found]
    return found


def _within(key: str, values: list[str]) -> Object:
    return {"key": key, "operator": "In", "values": values}


def _preference(weight: int, requirement: Object) -> Object:
    return {"weight": weight, "preference": {"matchExpressions": [requirement]}}
