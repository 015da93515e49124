"""Containers under restricted pod security, with every default of Kubernetes written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generator.charts.frames import Frame, Object

USER = 10001
"""User and group of every container; no image of ours has files that another user owns."""

TMP_VOLUME = "tmp"
_TMP_MOUNT = {"name": TMP_VOLUME, "mountPath": "/tmp"}
_INIT_RESOURCES = {
    "requests": {"cpu": "500m", "memory": "512Mi"},
    "limits": {"cpu": "2", "memory": "1Gi"},
}
"""Copying and hashing is one stream; what it reads and writes is page cache and can be dropped."""


def pod_security() -> Object:
    """Return the pod's security context: the `restricted` profile of the Pod Security Standards."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Return a container's security context: no capability, and nothing to write to but volumes."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def image(frame: Frame) -> str:
    """Return the serving image of the plan's engine variant; a pod of one's own has none."""
    server = frame.plan.server
    return frame.fleet.images.serving(server.variant if server else "cpu")


def bare(
    name: str,
    image: str,
    command: Sequence[str],
    *,
    environment: Sequence[Object] = (),
    mounts: Sequence[Object] = (),
    resources: Object | None = None,
    pull_policy: str = "IfNotPresent",
    **fields: Any,
) -> Object:
    """Return a container; the whole command line stands in `command` unless `args` continue it."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": list(command),
        **({"env": list(environment)} if environment else {}),
        **fields,
        "resources": resources or _INIT_RESOURCES,
        "volumeMounts": [*mounts, _TMP_MOUNT],
        "securityContext": container_security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def berth(
    frame: Frame,
    name: str,
    command: Sequence[str],
    *,
    environment: Sequence[Object] = (),
    mounts: Sequence[Object] = (),
    **fields: Any,
) -> Object:
    """Return a container of our serving image; its home is the scratch volume."""
    home = [{"name": "HOME", "value": "/tmp"}]
    policy = frame.fleet.images.pull_policy
    return bare(
        name,
        image(frame),
        command,
        environment=[*home, *environment],
        mounts=mounts,
        pull_policy=policy,
        **fields,
    )


def tmp_volume() -> Object:
    """Return the scratch volume that every container mounts at /tmp."""
    return {"name": TMP_VOLUME, "emptyDir": {"sizeLimit": "1Gi"}}
