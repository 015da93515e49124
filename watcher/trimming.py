"""What of an object is kept in memory, and which changes of it are worth a pass.

A node names hundreds of images, a pod carries its plan twice and a kubelet writes the time every few minutes:
none of that is read here, and left out it neither fills the memory nor wakes anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from kube.objects import items, mapping
from kube.reflector import trim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kube.client import Object

_CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")


def claim(thing: Object) -> Object:
    """Keep all of a claim but the time of its pods' last event."""
    if isinstance(thing.get("status"), dict):
        thing["status"].pop("lastPodEventTime", None)
    return trim(thing)


def node(thing: Object) -> Object:
    """Keep a node's labels, taints, conditions and amounts."""
    status, spec = mapping(thing.get("status")), mapping(thing.get("spec"))
    return {
        **_head(thing),
        "spec": _only(spec, ("providerID", "taints", "unschedulable")),
        "status": {
            **_only(status, ("capacity", "allocatable")),
            "conditions": [_only(one, _CONDITION) for one in items(status.get("conditions"))],
        },
    }


def pod(thing: Object) -> Object:
    """Keep where a pod is and how it fares."""
    spec, status = mapping(thing.get("spec")), dict(mapping(thing.get("status")))
    for unread in ("hostIP", "hostIPs", "podIP", "podIPs", "qosClass"):
        status.pop(unread, None)
    status["conditions"] = [_only(one, _CONDITION) for one in items(status.get("conditions"))]
    return {**_head(thing), "spec": _only(spec, ("nodeName",)), "status": status}


def workload(thing: Object) -> Object:
    """Keep how many a workload wants and has, and which selector is its own."""
    spec, status = mapping(thing.get("spec")), dict(mapping(thing.get("status")))
    # Deployments and StatefulSets write the time of their last look as well.
    status["conditions"] = [_only(one, _CONDITION) for one in items(status.get("conditions"))]
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
    digest = mapping(metadata.get("annotations")).get(labels.SERVER_DIGEST)
    if digest is not None:
        kept["annotations"] = {labels.SERVER_DIGEST: digest}
    return {"apiVersion": thing["apiVersion"], "kind": thing["kind"], "metadata": kept}


def _only(thing: Mapping[str, object], keys: Iterable[str]) -> Object:
    return {key: thing[key] for key in keys if key in thing}
