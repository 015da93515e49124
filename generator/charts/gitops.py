"""What Argo CD and Flux are told by annotations: order, and what must not vanish by accident."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from generator.charts.frames import Object

_BEFORE = frozenset({"ServiceAccount", "ConfigMap", "NetworkPolicy", "NodePool"})
"""What pods need to start. The Workspace is not among them: it is healthy only when its pods are, and a wave
waits for the health of the one before."""
_CUSTOM = frozenset({"Workspace", "NodePool", "PodMonitor", "HTTPRoute"})
"""Kinds whose CRD may come with the same sync."""
_PROTECTED = frozenset({"NodePool", "PersistentVolumeClaim"})
"""Kinds whose loss takes nodes or data with it."""


def annotated(thing: Object, gitops: str) -> Object:
    """Return the object with the annotations of the fleet's GitOps tool."""
    return noted(thing, {"argocd": _argocd, "flux": _flux}.get(gitops, _none)(thing))


def noted(thing: Object, found: Mapping[str, str]) -> Object:
    """Return the object with more annotations; its own go before them."""
    if not found:
        return thing
    metadata = thing["metadata"]
    return {
        **thing,
        "metadata": {**metadata, "annotations": {**found, **(metadata.get("annotations") or {})}},
    }


def _argocd(thing: Object) -> dict[str, str]:
    kind, found = thing["kind"], {}
    if kind in _BEFORE:
        found["argocd.argoproj.io/sync-wave"] = "-1"
    options = []
    if kind in _CUSTOM:
        options.append("SkipDryRunOnMissingResource=true")
    if kind in _PROTECTED:
        options += ["Prune=confirm", "Delete=confirm"]
    if options:
        found["argocd.argoproj.io/sync-options"] = ",".join(options)
    return found


def _flux(thing: Object) -> dict[str, str]:
    found = {}
    if "${" in json.dumps(thing):
        # Flux would put a variable's value, or nothing, in its place.
        found["kustomize.toolkit.fluxcd.io/substitute"] = "disabled"
    if thing["kind"] in _PROTECTED:
        found["kustomize.toolkit.fluxcd.io/prune"] = "disabled"
    return found


def _none(thing: Object) -> dict[str, str]:
    return {}
