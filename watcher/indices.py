"""By which values an object is found: what leads from claims, nodes and pods to their Workspaces."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from berth import labels, names
from kube.objects import items, labels_of, mapping, metadata, notes_of

if TYPE_CHECKING:
    from kube.client import Object


def uid(workspace: Object) -> list[str]:
    """Return the Workspace's uid."""
    return [str(metadata(workspace).get("uid"))]


def pools(workspace: Object) -> list[str]:
    """Return the names that the Workspace's NodePool may have: git may know its namespace or not."""
    own = metadata(workspace)
    found = [names.of_cluster(namespace, str(own["name"])) for namespace in (own.get("namespace"), None)]
    return list(dict.fromkeys(found))


def planned_labels(workspace: Object) -> dict[str, str]:
    """Return the labels of the nodes that the Workspace's plan asks for."""
    text = notes_of(workspace).get(labels.PLAN)
    return _planned_labels(text) if isinstance(text, str) else {}


@lru_cache(maxsize=4096)
def _planned_labels(plan: str) -> dict[str, str]:
    try:
        nodes = mapping(mapping(orjson.loads(plan)).get("nodes"))
    except orjson.JSONDecodeError:
        return {}
    return {str(key): str(value) for key, value in mapping(nodes.get("labels")).items()}


def one_planned_label(workspace: Object) -> list[str]:
    """Return one of the planned labels: who meets a node by it compares the others."""
    return [f"{key}={value}" for key, value in sorted(planned_labels(workspace).items())[:1]]


def owners(claim: Object) -> list[str]:
    """Return for whom a claim was made, by uid, by name as KAITO writes it, or by NodePool."""
    own = labels_of(claim)
    found = []
    if labels.WORKSPACE_UID in own:
        found.append(f"uid:{own[labels.WORKSPACE_UID]}")
    if labels.WORKSPACE in own:
        found.append(f"name:{own.get(labels.WORKSPACE_NAMESPACE, '')}/{own[labels.WORKSPACE]}")
    if own.get(labels.NODE_POOL, labels.KAITO_POOL) != labels.KAITO_POOL:
        found.append(f"pool:{own[labels.NODE_POOL]}")
    return found


def asked_owners(workspace: Object) -> list[str]:
    """Return the same from the Workspace's side."""
    own = metadata(workspace)
    return [
        f"uid:{own.get('uid')}",
        f"name:{own.get('namespace', '')}/{own['name']}",
        *(f"pool:{name}" for name in pools(workspace)),
    ]


def nodes_of(claim: Object) -> list[str]:
    """Return the claim's node by name and by provider's id; a Machine knows only the latter."""
    status = mapping(claim.get("status"))
    return [str(status[key]) for key in ("nodeName", "providerID") if status.get(key)]


def node_labels(node: Object) -> list[str]:
    """Return every label of a node as `key=value`."""
    return [f"{key}={value}" for key, value in labels_of(node).items()]


def provider_id(node: Object) -> list[str]:
    """Return the provider's id of a node."""
    found = mapping(node.get("spec")).get("providerID")
    return [str(found)] if found else []


def workspace_of(part: Object) -> list[str]:
    """Return `namespace/name` of the Workspace that a pod, a workload or a Service belongs to."""
    name = labels_of(part).get(labels.WORKSPACE)
    return [f"{metadata(part).get('namespace', '')}/{name}"] if name else []


def counted(workspace: Object) -> tuple[str, ...]:
    """Return the nodes that the Workspace's status says it runs on."""
    return tuple(str(name) for name in items(mapping(workspace.get("status")).get("workerNodes")))
