"""The simulator's scheduler, kubelets and workload controllers: pods start on nodes that fit."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from berth import labels
from kube import resources
from kube.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from kube.client import Client
    from tests.watcher.simulator import Script

    Object = dict[str, Any]

GPUS = {"Standard_NC24ads_A100_v4": 1, "Standard_NC48ads_A100_v4": 2, "Standard_NC4as_T4_v3": 1,
        "Standard_NC12s_v3": 2, "Standard_NC6s_v3": 1, "Standard_NV36ads_A10_v5": 1}  # fmt: skip


def conditions(told: dict[str, str], reason: str = "Simulated", message: str = "") -> list[Object]:
    """Return conditions that changed just now."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at}
        for kind, status in told.items()
    ]


async def round(client: Client, script: Script, namespace: str | None) -> None:
    """Bring each workload of a Workspace one step on."""
    for resource in (resources.DEPLOYMENTS, resources.STATEFUL_SETS):
        for workload in (await client.list(resource, namespace=namespace, labels=labels.WORKSPACE)).items:
            with contextlib.suppress(Conflict, NotFound, AlreadyExists):
                await _workload(client, script, resource, workload)


async def _workload(client: Client, script: Script, resource: Any, workload: Object) -> None:
    meta, spec = workload["metadata"], workload["spec"]
    selector = ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items())
    pods = (await client.list(resources.PODS, namespace=meta["namespace"], labels=selector)).items
    for number in range(spec["replicas"]):
        name = f"{meta['name']}-{number}"
        if all(pod["metadata"]["name"] != name for pod in pods):
            template = spec["template"]
            await client.create(resources.PODS, {
                "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                "metadata": {"name": name, "namespace": meta["namespace"], **template["metadata"]},
            })  # fmt: skip
    wanted = {f"{meta['name']}-{number}" for number in range(spec["replicas"])}
    for pod in [pod for pod in pods if pod["metadata"]["name"] not in wanted]:
        pods.remove(pod)
        await _end(client, pod)
    nodes = {node["metadata"]["name"]: node for node in (await client.list(resources.NODES)).items}
    for pod in pods:
        await _pod(client, script, pod, nodes)
    ready = sum(1 for pod in pods if is_ready(pod))
    counted = {"replicas": len(pods), "readyReplicas": ready, "updatedReplicas": len(pods)}
    status = {"observedGeneration": meta["generation"], **counted, "availableReplicas": ready}
    there = workload.get("status") or {}
    if any(there.get(key, 0) != value for key, value in status.items()):
        if resource is resources.DEPLOYMENTS:
            full = "True" if ready >= spec["replicas"] else "False"
            status["conditions"] = conditions({"Available": full, "Progressing": "True"})
        await client.patch(
            resource, meta["name"], {"status": status}, namespace=meta["namespace"], subresource="status"
        )


async def _pod(client: Client, script: Script, pod: Object, nodes: dict[str, Object]) -> None:
    meta, where = pod["metadata"], pod["spec"].get("nodeName")
    if where is not None and where not in nodes:
        await _end(client, pod)
        return
    if where is None:
        taken: Counter[str] = Counter()
        for other in (await client.list(resources.PODS, namespace=None)).items:
            taken[other["spec"].get("nodeName") or ""] += gpus_of(other)
        fitting = [name for name, node in sorted(nodes.items()) if _fits(pod, node, taken[name])]
        if fitting:
            binding = {
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": fitting[0]},
            }  # fmt: skip
            path = resources.PODS.path(meta["namespace"], meta["name"], "binding")
            await client._send("POST", path, body=binding)
        elif not (pod.get("status") or {}).get("conditions"):
            said = f"0/{len(nodes)} nodes are available: {len(nodes)} Insufficient nvidia.com/gpu."
            told = conditions({"PodScheduled": "False"}, "Unschedulable", said)
            await _say(client, pod, {"conditions": told})
        return
    good = _ready(nodes[where])
    state = {"running": {"startedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}}
    container = {"name": "server", "image": "x", "imageID": "", "restartCount": 0}
    if script.pods_fail is not None:
        status = {**container, "ready": False, "state": script.pods_fail}
        if not (pod.get("status") or {}).get("containerStatuses"):
            await _say(client, pod, {"phase": "Pending", "containerStatuses": [status]})
    elif good != is_ready(pod):
        told = conditions({"PodScheduled": "True", "Ready": "True" if good else "False"})
        status = {**container, "ready": good, "started": True, "state": state}
        await _say(client, pod, {"phase": "Running", "conditions": told, "containerStatuses": [status]})


async def _end(client: Client, pod: Object) -> None:
    """Take a pod away at once: no kubelet is there to confirm it."""
    meta = pod["metadata"]
    path = resources.PODS.path(meta["namespace"], meta["name"])
    await client._send("DELETE", path, body={"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}})


async def _say(client: Client, pod: Object, status: Object) -> None:
    meta = pod["metadata"]
    await client.patch(
        resources.PODS, meta["name"], {"status": status}, namespace=meta["namespace"], subresource="status"
    )


def is_ready(pod: Object) -> bool:
    """Say whether a pod answers."""
    told = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in told)


def gpus_of(pod: Object) -> int:
    """Return how many GPUs a pod takes."""
    limits = (pod["spec"]["containers"][0].get("resources") or {}).get("limits") or {}
    return int(limits.get(labels.GPU_RESOURCE, 0))


def _ready(node: Object) -> bool:
    told = (node.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in told)


def _fits(pod: Object, node: Object, taken: int) -> bool:
    amounts = (node.get("status") or {}).get("allocatable") or {}
    if not _ready(node) or taken + gpus_of(pod) > int(amounts.get(labels.GPU_RESOURCE, 0)):
        return False
    affinity = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {"nodeSelectorTerms": []}
    own = node["metadata"].get("labels") or {}
    for term in affinity["nodeSelectorTerms"]:
        for one in term.get("matchExpressions") or []:
            if one["operator"] == "In" and own.get(one["key"]) not in one["values"]:
                return False
    return True
