"""What is there: claims, nodes and pods as the cluster shows them, reduced to what decisions need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from berth import labels
from berth.quantities import GIB
from kube import times
from kube.objects import items, labels_of, mapping, mappings, metadata, notes_of
from watcher import failures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from watcher.failures import Failure
    from watcher.world import ClaimKind, Object, Snapshot


DISKS = ("storage", "ephemeral-storage")
"""How a claim asks for its node's disk: the gpu-provisioner reads the first, Karpenter the second."""


class Stage(IntEnum):
    """How far a claim is; it only ever goes up."""

    ASKED = 0
    LAUNCHED = 1
    REGISTERED = 2
    READY = 3

    @property
    def word(self) -> str:
        """The phase as the status shows it: what the node is doing."""
        return ("Launching", "Registering", "Initializing", "Ready")[self]


@dataclass(frozen=True, slots=True)
class Claim:
    """A NodeClaim or Machine."""

    kind: ClaimKind
    name: str
    uid: str
    ours: bool
    """Whether it carries this Workspace's uid; whatever else is like ours is left alone."""
    index: int
    attempt: int
    instance_type: str
    labels: Mapping[str, str]
    disk: int
    created: datetime
    terminating: bool
    stage: Stage
    node: str
    failure: Failure | None
    silent: bool
    """Whether no provisioner has written anything to it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster."""

    name: str
    labels: Mapping[str, str]
    ready: bool
    since: datetime
    """Since when it is ready, or not."""
    gpus: int
    schedulable: bool


def claim(document: Object, uid: str) -> Claim:
    """Read a claim; a Machine's conditions are named after it."""
    meta, status = metadata(document), mapping(document.get("status"))
    spec, notes = mapping(document.get("spec")), notes_of(document)
    kind: ClaimKind = "Machine" if document.get("kind") == "Machine" else "NodeClaim"
    found = {name.removeprefix("Machine"): one for name, one in conditions(document).items()}
    stage = Stage.ASKED
    for name, reached in (("Launched", Stage.LAUNCHED), ("Registered", Stage.REGISTERED),
                          ("Initialized", Stage.READY), ("Ready", Stage.READY)):  # fmt: skip
        if holds(found.get(name)):
            stage = max(stage, reached)
    requests = mapping(mapping(spec.get("resources")).get("requests"))
    tags = labels_of(document)
    return Claim(
        kind=kind,
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        ours=bool(uid) and tags.get(labels.WORKSPACE_UID) == uid,
        index=_number(notes.get(labels.INDEX)),
        attempt=_number(notes.get(labels.ATTEMPT)),
        instance_type=instance_type(document),
        labels=tags,
        disk=max(_number(str(requests.get(key, "0")).removesuffix("Gi")) for key in DISKS) * GIB,
        created=times.read(meta.get("creationTimestamp")),
        terminating=bool(meta.get("deletionTimestamp")),
        stage=stage,
        node=str(status.get("nodeName") or ""),
        failure=failures.of_claim(found) if stage is Stage.ASKED else None,
        silent=not found,
    )


def instance_type(document: Object) -> str:
    """Return the instance type that a claim asks for; empty where it asks for none."""
    for one in mappings(mapping(document.get("spec")).get("requirements")):
        if one.get("key") == labels.INSTANCE_TYPE and items(one.get("values")):
            return str(one["values"][0])
    return ""


def node(document: Object) -> Node:
    """Read a node; allocatable GPUs count, because a broken one leaves only there."""
    meta, status = metadata(document), mapping(document.get("status"))
    ready = mapping(conditions(document).get("Ready"))
    return Node(
        name=str(meta.get("name", "")),
        labels=labels_of(document),
        ready=holds(ready) and not meta.get("deletionTimestamp"),
        since=times.read(ready.get("lastTransitionTime") or meta.get("creationTimestamp")),
        gpus=_number(mapping(status.get("allocatable")).get(labels.GPU_RESOURCE)),
        schedulable=not mapping(document.get("spec")).get("unschedulable"),
    )


def conditions(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the conditions of any object, by type."""
    listed = mappings(mapping(document.get("status")).get("conditions"))
    return {str(one.get("type")): one for one in listed}


def holds(condition: Mapping[str, Any] | None) -> bool:
    """Say whether a condition is there and true."""
    return condition is not None and condition.get("status") == "True"


def ended(pod: Object) -> bool:
    """Say whether a pod's containers have run to their end."""
    return mapping(pod.get("status")).get("phase") in ("Succeeded", "Failed")


def running(pods: Iterable[Object]) -> dict[str, int]:
    """Return how many pods each node holds, without those that have ended."""
    found: dict[str, int] = {}
    for pod in pods:
        where = str(mapping(pod.get("spec")).get("nodeName") or "")
        if where and not ended(pod):
            found[where] = found.get(where, 0) + 1
    return found


def claims(snapshot: Snapshot) -> tuple[Claim, ...]:
    """Return every claim of a snapshot in a fixed order; a Machine knows its node by the provider's id."""
    uid = str(metadata(snapshot.workspace).get("uid", ""))
    by_id = {mapping(one.get("spec")).get("providerID"): metadata(one).get("name") for one in snapshot.nodes}
    found = []
    for document in snapshot.claims:
        one = claim(document, uid)
        node = one.node or by_id.get(mapping(document.get("status")).get("providerID") or "")
        found.append(replace(one, node=str(node or "")))
    return tuple(sorted(found, key=lambda one: (one.kind, one.name)))


def _number(value: Any) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
