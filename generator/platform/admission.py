"""The webhook configurations: which requests the API server asks us about, and what if nobody answers.

There is never a `caBundle`: the webhook, or cert-manager, writes it as its own field, so git has nothing to
fight over. Filling may fail, since what git holds is complete; checking a Workspace or a workload may not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels
from generator.crd import PLURAL
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

TIMEOUT_SECONDS = 5
"""Far above what a check takes, far below what a rollout of the webhook may stall."""
API = "admissionregistration.k8s.io/v1"
OTHERS = ["kube-system", frame.NAMESPACE]
"""Namespaces that must work while we do not."""

_PARTS = ("resource", "inference", "tuning")
NOT_DELETED: Object = {
    "name": "not-being-deleted",
    "expression": "!has(object.metadata.deletionTimestamp)",
}
"""Finalizers must go even where today's rules would refuse the object."""
_CHANGED_PARTS = " || ".join(
    f"has(object.{part}) != has(oldObject.{part}) || "
    f"(has(object.{part}) && object.{part} != oldObject.{part})"
    for part in _PARTS
)
_CHANGED_NOTES = (
    "has(object.metadata.annotations) != has(oldObject.metadata.annotations) || "
    "(has(object.metadata.annotations) && object.metadata.annotations != oldObject.metadata.annotations)"
)
WORKSPACE_CHANGED: Object = {
    "name": "spec-or-plan-changed",
    "expression": f"request.operation != 'UPDATE' || {_CHANGED_PARTS} || {_CHANGED_NOTES}",
}
"""The plan is an annotation, so `metadata.generation` would not tell."""
SPEC_CHANGED: Object = {
    "name": "spec-or-labels-changed",
    "expression": "request.operation != 'UPDATE' || object.spec != oldObject.spec || "
    "has(object.metadata.labels) != has(oldObject.metadata.labels) || "
    "(has(object.metadata.labels) && object.metadata.labels != oldObject.metadata.labels) || "
    f"{_CHANGED_NOTES}",
}

SCALED_UP: list[Object] = [
    {
        "name": "ours",
        "expression": "has(object.status.selector) && "
        f"object.status.selector.contains('{labels.WORKSPACE}=')",
    },
    {
        "name": "more-replicas",
        "expression": "has(object.spec.replicas) && "
        "(!has(oldObject.spec.replicas) || object.spec.replicas > oldObject.spec.replicas)",
    },
]
"""A Scale has no labels; its selector, which is a text, tells whose pods it counts."""


def configurations(settings: frame.Settings) -> Iterator[Object]:
    """Yield both configurations; they come last, when the webhook is there."""
    workspaces = _rule(labels.GROUP, list(labels.VERSIONS), [PLURAL], ["CREATE", "UPDATE"])
    workloads = [
        _rule("apps", ["v1"], ["deployments", "statefulsets"], ["CREATE", "UPDATE"]),
        _rule("leaderworkerset.x-k8s.io", ["v1"], ["leaderworkersets"], ["CREATE", "UPDATE"]),
    ]
    yield _configuration(
        "MutatingWebhookConfiguration",
        settings,
        [
            _entry("workspaces", "/mutate", "Ignore", [workspaces], [NOT_DELETED, WORKSPACE_CHANGED]),
            _entry("pods", "/mutate", "Ignore", [_rule("", ["v1"], ["pods"], ["CREATE"])], [], ours=True),
        ],
    )
    pods = [_rule("", ["v1"], ["pods"], ["CREATE", "UPDATE"])]
    scales = [_rule("apps", ["v1"], ["deployments/scale", "statefulsets/scale"], ["UPDATE"])]
    changed = [NOT_DELETED, SPEC_CHANGED]
    yield _configuration(
        "ValidatingWebhookConfiguration",
        settings,
        [
            _entry("workspaces", "/validate", "Fail", [workspaces], [NOT_DELETED, WORKSPACE_CHANGED]),
            _entry("workloads", "/validate", "Fail", workloads, changed, ours=True),
            _entry("pods", "/validate", "Ignore", pods, changed, ours=True),
            # What scales by itself must go on without us; the workload's next edit is told.
            _entry("scales", "/validate", "Ignore", scales, SCALED_UP),
        ],
    )


def _configuration(kind: str, settings: frame.Settings, webhooks: list[Object]) -> Object:
    annotations = {}
    if settings.certificates == "cert-manager":
        annotations["cert-manager.io/inject-ca-from"] = f"{frame.NAMESPACE}/{frame.WEBHOOK}"
    return frame.thing(
        API, kind, frame.WEBHOOK, component=frame.WEBHOOK, annotations=annotations, webhooks=webhooks
    )


def _entry(
    name: str,
    path: str,
    failure: str,
    rules: list[Object],
    conditions: list[Object],
    *,
    ours: bool = False,
) -> Object:
    found: Object = {
        "name": f"{name}.{labels.DOMAIN}",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "service": {"name": frame.WEBHOOK, "namespace": frame.NAMESPACE, "path": path, "port": 443}
        },
        "rules": rules,
        "failurePolicy": failure,
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [_not_in("kubernetes.io/metadata.name", OTHERS)]},
        "objectSelector": {"matchExpressions": [_ours()]} if ours else {},
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS,
    }
    if conditions:
        found["matchConditions"] = conditions
    if path == "/mutate":
        found["reinvocationPolicy"] = "IfNeeded"
    return found


def _rule(group: str, versions: list[str], resources: list[str], operations: list[str]) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": versions,
        "operations": operations,
        "resources": resources,
        "scope": "Namespaced",
    }


def _ours() -> dict[str, Any]:
    """Of an update, the API server looks at the old and the new object: taking the label off is seen."""
    return {"key": labels.WORKSPACE, "operator": "Exists"}


def _not_in(key: str, values: list[str]) -> dict[str, Any]:
    return {"key": key, "operator": "NotIn", "values": values}
