"""What mutation fills: fields that nobody set, of unrendered Workspaces and of our own pods.

A rendered Workspace is complete, so it is left alone; nothing that is there is ever rewritten, and a plan is
never written. Filling the same object twice changes it once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels
from berth.spec import llamacpp
from kube.objects import items, metadata, notes_of, spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from webhook.reviews import Request

Patch = dict[str, Any]

_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_OURS = ("server", "worker", "weights", "tools")
"""Containers that berth renders; what others inject may need rights that these defaults take away."""
_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def patch(request: Request) -> list[Patch]:
    """Return the JSON patch for an object; empty where nothing is absent."""
    document = request.object
    if document is None or not request.stores:
        return []
    notes = notes_of(document)
    if metadata(document).get("deletionTimestamp"):
        return []
    if request.of_workspace:
        # A label or a finalizer is to stay a change of metadata, which passes whatever the rules say.
        if labels.PLAN in notes or (request.old is not None and spec(document) == spec(request.old)):
            return []
        return list(_workspace(document))
    if request.kind == "Pod" and request.operation == "CREATE" and labels.SERVER_DIGEST in notes:
        return list(_pod(document))
    return []


def _workspace(document: Mapping[str, Any]) -> Iterable[Patch]:
    """The fixed defaults, which count in the plan as if they were written."""
    inference = document.get("inference")
    if not isinstance(inference, dict) or not isinstance(inference.get("preset"), dict):
        return
    yield from _filled(inference, ("inference",), "llamacpp", llamacpp.DEFAULTS)


def _pod(document: Mapping[str, Any]) -> Iterable[Patch]:
    pod = document.get("spec")
    if not isinstance(pod, dict):
        return
    yield from _filled(pod, ("spec",), "securityContext", _POD)
    for group in ("initContainers", "containers"):
        for index, container in enumerate(items(pod.get(group))):
            if isinstance(container, dict) and container.get("name") in _OURS:
                yield from _filled(container, ("spec", group, index), "securityContext", _CONTAINER)


def _filled(
    parent: Mapping[str, Any], path: tuple[str | int, ...], key: str, defaults: Mapping[str, Any]
) -> Iterable[Patch]:
    pointer = "".join(f"/{part}" for part in (*path, key))
    if key not in parent:
        yield {"op": "add", "path": pointer, "value": dict(defaults)}
        return
    given = parent[key]
    if isinstance(given, dict):
        for name, value in defaults.items():
            if name not in given:
                yield {"op": "add", "path": f"{pointer}/{name}", "value": value}
