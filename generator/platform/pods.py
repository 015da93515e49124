"""The pods of webhook and watcher: two of each, restricted, probed and spread over nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.charts.frames import Object

REPLICAS = 2
USER = 10001
GRACE_SECONDS = {frame.WEBHOOK: 75, frame.WATCHER: 30}
"""The webhook serves on until it is quiet, a minute at most; the watcher ends its passes and hands over."""
_NEW_BEFORE_OLD = {"maxSurge": 1, "maxUnavailable": 0}


def objects(component: str, image: str, settings: frame.Settings) -> Iterator[Object]:
    """Yield ServiceAccount, disruption budget and Deployment of one program."""
    yield frame.thing(
        "v1",
        "ServiceAccount",
        component,
        component=component,
        namespaced=True,
        automountServiceAccountToken=False,
    )
    yield frame.thing(
        "policy/v1",
        "PodDisruptionBudget",
        component,
        component=component,
        namespaced=True,
        spec={
            "maxUnavailable": 1,
            "selector": {"matchLabels": frame.selector(component)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )
    spec = {
        "replicas": REPLICAS,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 600,
        "selector": {"matchLabels": frame.selector(component)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _NEW_BEFORE_OLD},
        "template": {
            "metadata": {"labels": frame.common_labels(component)},
            "spec": _pod(component, image, settings),
        },
    }
    yield frame.thing("apps/v1", "Deployment", component, component=component, namespaced=True, spec=spec)


def _pod(component: str, image: str, settings: frame.Settings) -> Object:
    pod: Object = {
        "serviceAccountName": component,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "priorityClassName": frame.PRIORITY_CLASS,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "terminationGracePeriodSeconds": GRACE_SECONDS[component],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [_spread(component, key) for key in (labels.HOSTNAME, _ZONE)],
        "containers": [_container(component, image, settings)],
        "volumes": _volumes(component, settings),
    }
    if settings.fleet.images.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.fleet.images.pull_secrets]
    return pod


_ZONE = "topology.kubernetes.io/zone"
_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "192Mi", "ephemeral-storage": "16Mi"},
    "limits": {"memory": "512Mi", "ephemeral-storage": "64Mi"},
}
"""Measured in docs/benchmarks.md: webhook and watcher hold 130 and 135 MiB, a crowd of reviews takes 352."""


def _spread(component: str, key: str) -> Object:
    """A cluster of one node must still be able to start both."""
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": frame.selector(component)},
    }


def _container(component: str, image: str, settings: frame.Settings) -> Object:
    ports = [{"name": "http", "containerPort": frame.PLAIN_PORT, "protocol": "TCP"}]
    if component == frame.WEBHOOK:
        ports.insert(0, {"name": "https", "containerPort": frame.HTTPS_PORT, "protocol": "TCP"})
    return {
        "name": component.removeprefix("berth-"),
        "image": image,
        "imagePullPolicy": settings.fleet.images.pull_policy,
        "args": _arguments(component, settings),
        "env": [
            _from_pod("BERTH_NAMESPACE", "metadata.namespace"),
            _from_pod("BERTH_POD_NAME", "metadata.name"),
        ],
        "ports": ports,
        "resources": _RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/healthz", period=2, failures=60),
        "readinessProbe": _probe("/readyz", period=5, failures=2),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "volumeMounts": _mounts(component, settings),
    }


def _arguments(component: str, settings: frame.Settings) -> list[str]:
    found = [f"--fleet={frame.FLEET_FOLDER}/{frame.FLEET_KEY}"]
    if component == frame.WEBHOOK and settings.certificates == "cert-manager":
        found += ["--certificates=files", f"--cert-dir={frame.CERTIFICATES_FOLDER}"]
    if component == frame.WATCHER and settings.dry_run:
        found.append("--dry-run")
    return found


def _from_pod(name: str, field: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
        "successThreshold": 1,
    }


def _mounts(component: str, settings: frame.Settings) -> list[Object]:
    found: list[Object] = [
        {"name": "fleet", "mountPath": frame.FLEET_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if component == frame.WEBHOOK and settings.certificates == "cert-manager":
        found.append({"name": "certificates", "mountPath": frame.CERTIFICATES_FOLDER, "readOnly": True})
    return found


def _volumes(component: str, settings: frame.Settings) -> list[Object]:
    """The fleet file is a folder's, not a `subPath`: only so a change reaches the pod without a restart."""
    found: list[Object] = [
        {"name": "fleet", "configMap": {"name": frame.FLEET, "defaultMode": 0o444}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
    ]
    if component == frame.WEBHOOK and settings.certificates == "cert-manager":
        secret = {"secretName": frame.CERTIFICATES, "defaultMode": 0o440}
        found.append({"name": "certificates", "secret": secret})
    return found
