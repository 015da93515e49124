"""What of an object is kept in memory, and which changes of it are worth a pass.

A node names hundreds of images, a pod carries its plan twice and a kubelet writes the time every few minutes:
none of that is read here, and left out it neither fills the memory nor wakes anybody.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from berth import labels
from kube.objects import mapping, mappings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kube.client import Object

_NOTES = (labels.SERVER_DIGEST, labels.INDEX, labels.ATTEMPT)
_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")


def claim(thing: Object) -> Object:
    """Keep whose a claim is, what it asks for, and how far it is."""
    spec, status = mapping(thing.get("spec")), mapping(thing.get("status"))
    asked = [one for one in mappings(spec.get("requirements")) if one.get("key") == labels.INSTANCE_TYPE]
    return {
        **_head(thing),
        "spec": {"requirements": asked, **_only(spec, ("resources",))},
        "status": {**_only(status, ("nodeName", "providerID")), "conditions": _conditions(status)},
    }


def node(thing: Object) -> Object:
    """Keep a node's labels, conditions and GPUs, and whether pods may come."""
    status, spec = mapping(thing.get("status")), mapping(thing.get("spec"))
    gpus = _only(mapping(status.get("allocatable")), (labels.GPU_RESOURCE,))
    return {
        **_head(thing),
        "spec": _only(spec, ("providerID", "unschedulable")),
        "status": {"allocatable": gpus, "conditions": _conditions(status)},
    }


def pod(thing: Object) -> Object:
    """Keep where a pod is and how it fares."""
    spec, status = mapping(thing.get("spec")), dict(mapping(thing.get("status")))
    for unread in ("hostIP", "hostIPs", "podIP", "podIPs", "qosClass"):
        status.pop(unread, None)
    status["conditions"] = _conditions(status)
    return {**_head(thing), "spec": _only(spec, ("nodeName",)), "status": status}


def workload(thing: Object) -> Object:
    """Keep how many a workload wants and has, and which selector is its own."""
    spec, status = mapping(thing.get("spec")), dict(mapping(thing.get("status")))
    # Deployments and StatefulSets write the time of their last look as well.
    status["conditions"] = _conditions(status)
    kept = _only(spec, ("replicas", "selector", "serviceName"))
    return {**_head(thing), "spec": kept, "status": status}


def other(thing: Object) -> Object:
    """Keep a Service, an Ingress, a route or a pool but for its annotations."""
    return {**thing, **_head(thing)}


def differs(old: Object, new: Object) -> bool:
    """Say whether anything that is kept changed, but for the version."""
    if any(old.get(key) != new.get(key) for key in {*old, *new} if key != "metadata"):
        return True
    before, after = old["metadata"], new["metadata"]
    return any(before.get(key) != after.get(key) for key in {*before, *after} if key != "resourceVersion")


def _head(thing: Object) -> Object:
    metadata = thing["metadata"]
    kept = _only(metadata, ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"))
    kept.update(_only(metadata, ("deletionTimestamp", "labels", "ownerReferences")))
    if "labels" in kept:
        kept["labels"] = {key: sys.intern(value) for key, value in kept["labels"].items()}
    notes = _only(mapping(metadata.get("annotations")), _NOTES)
    if notes:
        kept["annotations"] = notes
    return {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": kept}


def _conditions(status: Mapping[str, Any]) -> list[Object]:
    """Return the conditions; thousands are alike, and are one object."""
    return [
        _condition(*(str(one.get(key, "")) for key in _CONDITION))
        for one in mappings(status.get("conditions"))
    ]


@lru_cache(maxsize=8192)
def _condition(*values: str) -> Object:
    return {key: sys.intern(value) for key, value in zip(_CONDITION, values, strict=True) if value}


def _only(thing: Mapping[str, Any], keys: Iterable[str]) -> Object:
    return {key: thing[key] for key in keys if key in thing}
