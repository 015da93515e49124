"""What Argo CD and Flux are told: what comes first, and what never goes by accident."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generator.charts.gitops import Wishes, told

if TYPE_CHECKING:
    from generator.charts.frames import Object

_KEPT = frozenset({"CustomResourceDefinition", "Namespace"})
"""Their loss takes everything in them along: every Workspace, or the webhook."""
_LAST = frozenset({"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"})
"""They wait until the webhook is healthy, so that nothing is refused because nobody answers yet."""
_DOMAINS_OF_OTHERS = ("monitoring.coreos.com/", "cert-manager.io/")


def annotated(thing: Object, tool: str) -> Object:
    """Return an object of the platform with the annotations of the fleet's GitOps tool."""
    kind, options = thing["kind"], []
    if kind == "CustomResourceDefinition":
        # It is larger than the annotation in which `kubectl apply` keeps what it applied last may be.
        options.append("ServerSideApply=true")
    if thing["apiVersion"].startswith(_DOMAINS_OF_OTHERS):
        options.append("SkipDryRunOnMissingResource=true")
    wave = -2 if kind in _KEPT else 1 if kind in _LAST else 0
    return told(thing, tool, Wishes(wave, kind in _KEPT, tuple(options)))
