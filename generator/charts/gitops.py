"""What Argo CD and Flux are told by annotations: order, and what must not vanish by accident."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generator.charts.frames import Object

_BEFORE = frozenset({"ServiceAccount", "ConfigMap", "NetworkPolicy", "NodePool"})
"""What pods need to start. The Workspace is not among them: it is healthy only when its pods are, and a wave
waits for the health of the one before."""
_CUSTOM = frozenset({"Workspace", "NodePool", "PodMonitor", "HTTPRoute", "LeaderWorkerSet"})
"""Kinds whose CRD may come with the same sync."""
_PROTECTED = frozenset({"NodePool", "PersistentVolumeClaim"})
"""Kinds whose loss takes nodes or data with it."""


@dataclass(frozen=True)
class Wishes:
    """What a GitOps tool is to know of one object."""

    wave: int = 0
    """Argo CD's: smaller ones first, and each waits for the health of the one before."""
    kept: bool = False
    """Whether it must not vanish because it is gone from git."""
    options: tuple[str, ...] = ()
    """Argo CD's sync options."""


def annotated(thing: Object, gitops: str) -> Object:
    """Return an object of a Workspace with the annotations of the fleet's GitOps tool."""
    kind = thing["kind"]
    wishes = Wishes(
        wave=-1 if kind in _BEFORE else 0,
        kept=kind in _PROTECTED,
        options=("SkipDryRunOnMissingResource=true",) if kind in _CUSTOM else (),
    )
    return told(thing, gitops, wishes)


def told(thing: Object, gitops: str, wishes: Wishes) -> Object:
    """Return the object with the annotations that its wishes need; its own go before them."""
    found = {"argocd": _argocd, "flux": _flux}.get(gitops, _none)(thing, wishes)
    if not found:
        return thing
    metadata = thing["metadata"]
    return {
        **thing,
        "metadata": {**metadata, "annotations": {**found, **(metadata.get("annotations") or {})}},
    }


def _argocd(thing: Object, wishes: Wishes) -> dict[str, str]:
    found = {}
    if wishes.wave:
        found["argocd.argoproj.io/sync-wave"] = str(wishes.wave)
    options = [*wishes.options, *(("Prune=confirm", "Delete=confirm") if wishes.kept else ())]
    if options:
        found["argocd.argoproj.io/sync-options"] = ",".join(options)
    return found


def _flux(thing: Object, wishes: Wishes) -> dict[str, str]:
    found = {}
    if "${" in json.dumps(thing):
        # Flux would put a variable's value, or nothing, in its place.
        found["kustomize.toolkit.fluxcd.io/substitute"] = "disabled"
    if wishes.kept:
        found["kustomize.toolkit.fluxcd.io/prune"] = "disabled"
    return found


def _none(thing: Object, wishes: Wishes) -> dict[str, str]:
    return {}
