"""What webhook and watcher may do in the cluster, and nothing beyond."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from generator.crd import PLURAL
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

_SEE = ["get", "list", "watch"]


def webhook(settings: frame.Settings) -> Iterator[Object]:
    """Yield the webhook's roles; with somebody else's certificates it writes nothing at all."""
    rules = [_rule(labels.GROUP, [PLURAL], ["list", "watch"])]
    if settings.certificates == "own":
        configurations = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
        rules.append(_rule("admissionregistration.k8s.io", configurations, ["get", "patch"], frame.WEBHOOK))
    yield from _cluster(frame.WEBHOOK, rules)
    if settings.certificates == "own":
        yield from _local(
            frame.WEBHOOK,
            [
                # A create cannot be limited to a name: the API server does not know it yet.
                _rule("", ["secrets"], ["create"]),
                _rule("", ["secrets"], ["get", "update", "patch"], frame.CERTIFICATES),
                _rule("coordination.k8s.io", ["leases"], ["create"]),
                _rule("coordination.k8s.io", ["leases"], ["get", "update"], frame.WEBHOOK),
                # Every replica reports in one that is named after its pod, which no role can know.
                _rule("coordination.k8s.io", ["leases"], ["list", "patch", "delete"]),
            ],
        )


_CLAIMS = {"nodeclaim": "nodeclaims", "machine": "machines"}
"""What the watcher makes, by the fleet's provisioning; NodePools stand in git, existing nodes are yours."""


def watcher(settings: frame.Settings) -> Iterator[Object]:
    """Yield the watcher's roles: it makes and deletes the one kind of node object that the fleet file names.

    It never writes a Workspace's spec: the patch is for finalizers, and what it makes of it is tested.
    """
    rules = [
        _rule(labels.GROUP, [PLURAL], [*_SEE, "patch"]),
        _rule(labels.GROUP, [f"{PLURAL}/status"], ["patch"]),
        _rule("", ["nodes", "pods", "services"], ["list", "watch"]),
        _rule("apps", ["deployments", "statefulsets"], ["list", "watch"]),
        _rule("networking.k8s.io", ["ingresses"], ["list", "watch"]),
        _rule("gateway.networking.k8s.io", ["httproutes"], ["list", "watch"]),
        _rule("karpenter.sh", [*_CLAIMS.values(), "nodepools"], ["list", "watch"]),
        _rule("events.k8s.io", ["events"], ["create", "patch"]),
    ]
    made = _CLAIMS.get(settings.fleet.provisioning)
    if made is not None:
        rules.append(_rule("karpenter.sh", [made], ["get", "create", "delete"]))
    yield from _cluster(frame.WATCHER, rules)
    yield from _local(
        frame.WATCHER,
        [
            # A create cannot be limited to a name: the API server does not know it yet.
            _rule("coordination.k8s.io", ["leases"], ["create"]),
            _rule("coordination.k8s.io", ["leases"], ["get", "update"], frame.WATCHER),
        ],
    )


def _rule(group: str, resources: list[str], verbs: list[str], *names: str) -> Object:
    found: Object = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return {**found, "resourceNames": list(names)} if names else found


def _cluster(component: str, rules: list[Object]) -> Iterator[Object]:
    yield frame.thing(f"{frame.RBAC}/v1", "ClusterRole", component, component=component, rules=rules)
    yield frame.thing(
        f"{frame.RBAC}/v1",
        "ClusterRoleBinding",
        component,
        component=component,
        roleRef={"apiGroup": frame.RBAC, "kind": "ClusterRole", "name": component},
        subjects=[_subject(component)],
    )


def _local(component: str, rules: list[Object]) -> Iterator[Object]:
    yield frame.thing(
        f"{frame.RBAC}/v1", "Role", component, component=component, namespaced=True, rules=rules
    )
    yield frame.thing(
        f"{frame.RBAC}/v1",
        "RoleBinding",
        component,
        component=component,
        namespaced=True,
        roleRef={"apiGroup": frame.RBAC, "kind": "Role", "name": component},
        subjects=[_subject(component)],
    )


def _subject(component: str) -> Object:
    return {"kind": "ServiceAccount", "name": component, "namespace": frame.NAMESPACE}
