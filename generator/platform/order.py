"""What Argo CD and Flux are told: what comes first, and what never goes by accident."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from generator.charts.gitops import noted

if TYPE_CHECKING:
    from generator.charts.frames import Object

_KEPT = frozenset({"CustomResourceDefinition", "Namespace"})
"""Their loss takes everything in them along: every Workspace, or the webhook."""
_LAST = frozenset({"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"})
"""They wait until the webhook is healthy, so that nothing is refused because nobody answers yet."""
_DOMAINS_OF_OTHERS = ("monitoring.coreos.com/", "cert-manager.io/")


def annotated(thing: Object, tool: str) -> Object:
    """Return the object with the annotations of the fleet's GitOps tool."""
    found = {"argocd": _argocd, "flux": _flux}.get(tool, _none)(thing)
    return noted(thing, found)


def _argocd(thing: Object) -> dict[str, str]:
    found, options = {}, []
    if thing["kind"] in _KEPT:
        found["argocd.argoproj.io/sync-wave"] = "-2"
        options += ["Prune=confirm", "Delete=confirm"]
    if thing["kind"] == "CustomResourceDefinition":
        # It is larger than the annotation in which `kubectl apply` keeps what it applied last may be.
        options.append("ServerSideApply=true")
    if thing["kind"] in _LAST:
        found["argocd.argoproj.io/sync-wave"] = "1"
    if thing["apiVersion"].startswith(_DOMAINS_OF_OTHERS):
        options.append("SkipDryRunOnMissingResource=true")
    if options:
        found["argocd.argoproj.io/sync-options"] = ",".join(options)
    return found


def _flux(thing: Object) -> dict[str, str]:
    found = {}
    if "${" in json.dumps(thing):
        found["kustomize.toolkit.fluxcd.io/substitute"] = "disabled"
    if thing["kind"] in _KEPT:
        found["kustomize.toolkit.fluxcd.io/prune"] = "disabled"
    return found


def _none(thing: Object) -> dict[str, str]:
    return {}
