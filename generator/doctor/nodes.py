"""What Workspaces need of a cluster: who makes nodes, GPUs that are announced, volumes, network policies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from berth import labels, workspaces
from generator.doctor.findings import error, fine, unknown, warning
from generator.reports import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.fleet import Fleet
    from generator.doctor.facts import Facts
    from generator.doctor.findings import Finding

AREA = "nodes"
_APIS = {
    "nodeclaim": ("karpenter v1", "nodeclaims", "karpenter.sh/v1"),
    "nodepool": ("karpenter v1", "nodepools", "karpenter.sh/v1"),
    "machine": ("karpenter v1alpha5", "machines", "karpenter.sh/v1alpha5"),
}
_CLAIMS = {"nodeclaim": "nodeclaims", "machine": "machines"}
_KAITOS = "workspace.finalizer.kaito.sh"
_ENFORCERS = (
    "calico",
    "cilium",
    "antrea",
    "weave-net",
    "kube-router",
    "azure-npm",
    "aws-node",
    "ovnkube",
    "canal",
)
"""Names of DaemonSets whose network plugins enforce NetworkPolicies; a hint, no proof."""
_DEVICE_PLUGINS = ("nvidia-device-plugin", "nvidia-gpu-device-plugin", "gpu-operator")


def judge(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    """Yield what there is to say about nodes and Workspaces."""
    yield _provisioner(facts, fleet)
    yield from _node_class(facts, fleet)
    yield from _gpus(facts, fleet)
    yield from _volumes(facts, fleet)
    yield from _network(facts, fleet)
    yield from _workspaces(facts)
    yield from _of_kaito(facts)
    yield from _leftovers(facts, fleet)


def _provisioner(facts: Facts, fleet: Fleet) -> Finding:
    what = "node provisioner"
    if fleet.provisioning == "none":
        return fine(AREA, what, "none is needed: berth.yaml says that nodes exist")
    question, plural, version = _APIS[fleet.provisioning]
    served = facts.data(question)
    said = "provisioning" in fleet.model_fields_set
    words = "berth.yaml says provisioning:" if said else "provisioning is by default"
    wanted = f"{words} {fleet.provisioning}"
    if served is None:
        reason = facts.refusal(question)
        if reason:
            return unknown(AREA, what, reason)
        fix = "install Karpenter (on Azure also: the GPU provisioner), or write provisioning: none"
        return error(AREA, what, f"{wanted}, and the cluster does not serve {version}", fix)
    if not any(one.get("name") == plural for one in served.get("resources") or ()):
        return error(AREA, what, f"{wanted}, and {version} has no {plural}", "look at Karpenter's version")
    return fine(AREA, what, f"the cluster serves {plural} of {version}")


def _node_class(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    node_class, what = fleet.new_node_class, "node class"
    if node_class is None or "node class" not in facts.answers:
        return
    name = f"{node_class.kind} {node_class.name}"
    if facts.missing("node class"):
        fix = "make it as the provisioner's guide says, or name yours as nodeClass in berth.yaml"
        yield error(AREA, what, f"{name} of {node_class.group} is not there, so no node can start", fix)
    elif facts.data("node class") is None:
        yield unknown(AREA, what, facts.refusal("node class") or "")
    else:
        conditions = (facts.data("node class").get("status") or {}).get("conditions") or ()
        ready = next((one for one in conditions if one.get("type") == "Ready"), None)
        if ready is not None and ready.get("status") != "True":
            fix = f"kubectl describe {node_class.kind.lower()} {node_class.name}"
            yield error(AREA, what, f"{name} is not ready: {ready.get('message', '')}", fix)
        else:
            yield fine(AREA, what, f"{name} is there")


def _gpus(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    what, refusal = "GPUs", facts.refusal("nodes")
    if refusal:
        yield unknown(AREA, what, refusal)
        return
    nodes = facts.items("nodes")
    announcing = [one for one in nodes if _gpus_of(one) > 0]
    silent = [one["metadata"]["name"] for one in nodes if _gpus_of(one) == 0 and _should_have(one)]
    plugin = any(
        name in one["metadata"]["name"] for one in facts.items("daemonsets") for name in _DEVICE_PLUGINS
    )
    if silent:
        names = ", ".join(silent[:3])
        announce = counted(len(silent), "GPU node announces", "GPU nodes announce")
        why = f"{announce} no {labels.GPU_RESOURCE}: {names}"
        if plugin:
            fix = f"look at the device plugin's pod there: kubectl describe node {silent[0]}"
        else:
            fix = (
                "install NVIDIA's device plugin or GPU operator: https://github.com/NVIDIA/k8s-device-plugin"
            )
        yield error(AREA, what, why, fix)
    elif announcing:
        total = sum(_gpus_of(one) for one in announcing)
        yield fine(
            AREA, what, f"{counted(total, 'GPU', 'GPUs')} on {counted(len(announcing), 'node', 'nodes')}"
        )
    elif fleet.provisioning == "none":
        why = f"no node announces {labels.GPU_RESOURCE}, and none will be made"
        yield error(AREA, what, why, "add GPU nodes with NVIDIA's device plugin")
    elif plugin:
        yield fine(AREA, what, "no GPU node yet; a device plugin is installed")
    else:
        why = "no GPU node yet, and no DaemonSet here looks like NVIDIA's device plugin"
        yield warning(
            AREA, what, why, "install it, unless your nodes' image has it: GPUs have to be announced"
        )


def _gpus_of(node: Any) -> int:
    amount = ((node.get("status") or {}).get("allocatable") or {}).get(labels.GPU_RESOURCE, 0)
    return int(amount) if str(amount).isdigit() else 0


def _should_have(node: Any) -> bool:
    """A node that a GPU claim made, or that some label calls one."""
    found = node["metadata"].get("labels") or {}
    taints = (node.get("spec") or {}).get("taints") or ()
    tainted = any(
        (one.get("key"), one.get("value")) == (labels.GPU_TAINT_KEY, labels.GPU_TAINT_VALUE) for one in taints
    )
    return tainted or found.get("accelerator") == "nvidia" or found.get("nvidia.com/gpu.present") == "true"


def _volumes(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    cache = fleet.weights.cache
    if cache is None:
        return
    what = f"volume {cache.pvc} for weights"
    claims = {one["metadata"]["namespace"]: one for one in facts.items("volumes")}
    for space in sorted({one["metadata"]["namespace"] for one in facts.items("workspaces")}):
        claim = claims.get(space)
        if claim is None:
            fix = "make the PersistentVolumeClaim there, or take weights.cache out of berth.yaml"
            yield error(AREA, what, f"namespace {space} has none, so pods there cannot start", fix)
        elif (claim.get("status") or {}).get("phase") != "Bound":
            storage = (claim.get("spec") or {}).get("storageClassName") or "the default class"
            fix = f"kubectl --namespace {space} describe pvc {cache.pvc}; kubectl get storageclasses"
            yield warning(AREA, what, f"it is not bound in namespace {space} (storage: {storage})", fix)
        else:
            yield fine(AREA, what, f"bound in namespace {space}")


def _network(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    if fleet.network_policy != "enforced" or facts.refusal("daemonsets"):
        return
    names = [one["metadata"]["name"] for one in facts.items("daemonsets")]
    seen = next((name for name in names for known in _ENFORCERS if known in name), None)
    if seen is not None:
        yield fine(AREA, "network policies", f"{seen} is there, which can enforce them")
    else:
        why = "berth.yaml says networkPolicy: enforced, and no network plugin known for that is here"
        fix = "make sure that policies are enforced: the engine's RPC between nodes has no authentication"
        yield warning(AREA, "network policies", why, fix)


def _workspaces(facts: Facts) -> Iterator[Finding]:
    for one in facts.items("workspaces"):
        metadata = one["metadata"]
        what = f"Workspace {metadata['namespace']}/{metadata['name']}"
        text = (metadata.get("annotations") or {}).get(labels.PLAN)
        again = "run `berth render`, commit the result, and let it be applied"
        if metadata.get("deletionTimestamp"):
            waits = ", ".join(metadata.get("finalizers") or ()) or "nothing"
            look = "look at the watcher's log; it goes when its nodes are gone"
            why = f"it is being deleted since {metadata['deletionTimestamp']}, held by {waits}"
            yield warning(AREA, what, why, look)
        elif text is None:
            yield error(AREA, what, "it was applied without a plan, so nothing runs for it", again)
        elif _digest_of(text) != _spec_digest(one):
            yield error(AREA, what, "its plan was made from another spec", again)


def _of_kaito(facts: Facts) -> Iterator[Finding]:
    """What KAITO's controller would have cleaned up, and nobody does without it."""
    held = [one for one in facts.items("workspaces") if _KAITOS in (one["metadata"].get("finalizers") or ())]
    for one in held:
        metadata = one["metadata"]
        what = f"Workspace {metadata['namespace']}/{metadata['name']}"
        why = f"KAITO's finalizer {_KAITOS} is on it, and only KAITO's controller would take it off"
        kept = [name for name in metadata["finalizers"] if name != _KAITOS]
        patch = json.dumps({"metadata": {"finalizers": kept}})
        where = f"workspace {metadata['name']} --namespace {metadata['namespace']}"
        fix = f"if KAITO is gone: kubectl patch {where} --type merge --patch '{patch}'"
        yield warning(AREA, what, why, fix)
    for plural in _CLAIMS.values():
        found = facts.items(f"KAITO's {plural}")
        if found:
            names = ", ".join(one["metadata"]["name"] for one in found[:3])
            made = counted(len(found), "was", "were")
            why = f"{made} made by KAITO ({names}), and cost until somebody deletes them"
            command = f"kubectl delete {plural}.karpenter.sh {names.replace(',', '')}"
            fix = f"when nothing runs there any more: {command}"
            yield warning(AREA, plural, why, fix)


def _leftovers(facts: Facts, fleet: Fleet) -> Iterator[Finding]:
    """The watcher may delete only the kind of node object that the fleet file names."""
    for provisioning, plural in _CLAIMS.items():
        found = facts.items(plural)
        if found and provisioning != fleet.provisioning:
            names = ", ".join(one["metadata"]["name"] for one in found[:3])
            why = (
                f"{counted(len(found), 'is', 'are')} left of provisioning: {provisioning} ({names}), "
                f"and berth.yaml says {fleet.provisioning}, so the watcher may not delete them"
            )
            command = f"kubectl delete {plural}.karpenter.sh --selector {labels.WORKSPACE_UID}"
            fix = f"{command}, when nothing runs there"
            yield warning(AREA, plural, why, fix)


def _digest_of(text: Any) -> str | None:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return None
    return found.get("specDigest") if isinstance(found, dict) else None


def _spec_digest(document: Any) -> str | None:
    reading = workspaces.read(document)
    return reading.workspace.spec_digest if reading.workspace is not None else None
