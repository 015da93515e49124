"""The pod of a preset: the serving container, its probes, its resources and the template around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth import argv, labels, names
from berth.plans import HOST_ALLOWANCE
from berth.quantities import GIB, MIB, format_bytes
from generator.charts import adapters, containers, placing
from generator.charts import weights as supplies
from generator.charts.frames import LEADER, REPLICA, WORKER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.plans import Plan, Server, Weights
    from generator.charts.frames import Frame, Object

PLAN_FOLDER, KEYS_FOLDER, CACHE_FOLDER = "/etc/berth", "/etc/berth-keys", "/cache"
PLAN_FILE = "plan.json"

READ_SPEED = 150 * MIB
"""Bytes per second of a slow network disk, at which weights must still load before the probe gives up."""
START_ALLOWANCE_SECONDS = 300
"""For the driver, CUDA's first start and the warm-up, however small the model is."""
GROUP_ALLOWANCE_SECONDS = 1800
"""A leader waits for its workers, whose nodes may take a quarter of an hour, and loads over the network."""
GRACE_SECONDS = 150
"""Running answers may finish after SIGTERM; the front stops taking new ones at once."""

LEAVE_SECONDS = 5
"""Between the wish that a pod ends and SIGTERM: proxies on the nodes still send to it for a moment."""

_PROBE_PERIOD_SECONDS = 10


@dataclass(frozen=True)
class Group:
    """One replica on several nodes: its index and the workers that its leader reaches."""

    replica: int | None
    """None where one template stands for all replicas."""
    workers: tuple[str, ...]
    """Host names in the order of the plan's GPUs."""
    own_name: str | None = None
    """Variable in which a leader finds its pod's name, where host names are made with it."""


def serving(frame: Frame, server: Server, weights: Weights, group: Group | None = None) -> Object:
    """Return the pod template of a replica, or of its leader where it spans several nodes."""
    supply = supplies.supply(frame, weights, server.mmproj)
    own = server.adapters or ()
    more = adapters.supply(frame, own, supply)
    container = containers.berth(
        frame,
        "server",
        ["python", "-m", "serving"],
        args=_arguments(server, weights, group),
        environment=_own_name(group),
        mounts=[
            supply.mount,
            *more.mounts,
            {"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": True},
            {"name": "api-keys", "mountPath": KEYS_FOLDER, "readOnly": True},
        ],
        ports=[_port("http", labels.PORT), _port("metrics", labels.METRICS_PORT)],
        resources=_resources(frame.plan, server),
        startupProbe=_probe(
            "/readyz", "http", failures=startup_failures(weights, loaded(server), group=group is not None)
        ),
        readinessProbe=_probe("/readyz", "http", period=5, failures=2),
        livenessProbe=_probe("/healthz", "http", failures=6),
        lifecycle={"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}},
    )
    keys = {
        "secretName": names.part(frame.workspace.name, "api-keys"),
        "optional": True,
        "defaultMode": 0o440,
    }
    plan = {"name": names.part(frame.workspace.name, "plan"), "optional": False, "defaultMode": 0o444}
    return template(
        frame,
        [container],
        init_containers=[*supply.init_containers, *more.init_containers],
        volumes=[
            *supply.volumes,
            *more.volumes,
            {"name": "plan", "configMap": plan},
            {"name": "api-keys", "secret": keys},
        ],
        pull_secrets=list(dict.fromkeys([*weights.pull_secrets, *adapters.pull_secrets(own)])),
        group_labels=_group_labels(group, LEADER),
    )


def worker(frame: Frame, server: Server, group: Group) -> Object:
    """Return the pod template of a replica's other nodes: they lend their GPUs over the engine's RPC."""
    container = containers.berth(
        frame,
        "worker",
        ["python", "-m", "serving", "worker"],
        args=["--metrics-port", str(labels.METRICS_PORT), "--", *argv.rpc_server()],
        environment=[{"name": "LLAMA_CACHE", "value": CACHE_FOLDER}],
        mounts=[{"name": "cache", "mountPath": CACHE_FOLDER}],
        ports=[_port("rpc", labels.RPC_PORT), _port("metrics", labels.METRICS_PORT)],
        resources=_resources(frame.plan, server, worker=True),
        # The engine's RPC takes one connection after the other, so probes must not knock there.
        startupProbe=_probe("/healthz", "metrics", failures=START_ALLOWANCE_SECONDS // _PROBE_PERIOD_SECONDS),
        readinessProbe=_probe("/healthz", "metrics", period=5, failures=2),
        livenessProbe=_probe("/healthz", "metrics", failures=6),
    )
    weights = frame.plan.weights
    room = format_bytes((-(-(weights.size if weights else 0) // GIB) + 1) * GIB)
    return template(
        frame,
        [container],
        volumes=[{"name": "cache", "emptyDir": {"sizeLimit": room}}],
        pull_secrets=(),
        group_labels=_group_labels(group, WORKER),
    )


def template(
    frame: Frame,
    pod_containers: Sequence[Object],
    *,
    init_containers: Sequence[Object] = (),
    volumes: Sequence[Object] = (),
    pull_secrets: Sequence[str],
    group_labels: Object,
) -> Object:
    """Return a pod template that carries the digest of its server's settings and no other."""
    own = frame.pod
    secrets = placing.joined(frame.fleet.images.pull_secrets, [*own.image_pull_secrets, *pull_secrets])
    spec: Object = {
        **({"initContainers": list(init_containers)} if init_containers else {}),
        "containers": list(pod_containers),
        "volumes": [*volumes, containers.tmp_volume()],
        **placed(frame),
        "serviceAccountName": own.service_account_name or frame.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": containers.pod_security(),
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
    }
    if secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    if own.priority_class_name is not None:
        spec["priorityClassName"] = own.priority_class_name
    if own.runtime_class_name is not None:
        spec["runtimeClassName"] = own.runtime_class_name
    return {
        "metadata": {
            "labels": {**frame.labels, **own.labels, **queue_label(frame), **frame.selector, **group_labels},
            "annotations": {**own.annotations, **carried(frame.plan)},
        },
        "spec": spec,
    }


def carried(plan: Plan) -> dict[str, str]:
    """Return the annotations with which admission compares a workload and its pods."""
    copy, digest = plan.server_copy()
    return {labels.SERVER: copy, labels.SERVER_DIGEST: digest} if plan.server is not None else {}


def placed(frame: Frame) -> Object:
    """Return the pod's affinity and tolerations."""
    affinity = placing.affinity(frame)
    return {**({"affinity": affinity} if affinity else {}), "tolerations": placing.tolerations(frame)}


def queue_label(frame: Frame) -> dict[str, str]:
    """Return Kueue's label; its webhook copies a workload's label to the pods, so it stands on both."""
    return {"kueue.x-k8s.io/queue-name": frame.pod.queue} if frame.pod.queue is not None else {}


def loaded(server: Server) -> list[int]:
    """Return the bytes of each file that the engine loads beside the weights."""
    return [file.size for file in (*(server.adapters or ()), server.mmproj) if file is not None]


def startup_failures(weights: Weights, beside: Sequence[int] = (), *, group: bool = False) -> int:
    """Return how many probes may fail before a start counts as stuck; bytes and disk speed decide.

    >>> from berth.plans import Weights
    >>> startup_failures(Weights(hf="r", file="m.gguf", size=15 * 1024**3))
    41
    """
    size = weights.size + sum(beside)
    seconds = START_ALLOWANCE_SECONDS + size / READ_SPEED + (GROUP_ALLOWANCE_SECONDS if group else 0)
    return math.ceil(seconds / _PROBE_PERIOD_SECONDS)


def _arguments(server: Server, weights: Weights, group: Group | None) -> list[str]:
    """What the front is told; the engine's own command line follows after `--`, as it will run."""
    model, written = supplies.path(weights), argv.as_written(server)
    front = [
        "--host", "0.0.0.0",
        "--port", str(labels.PORT),
        "--metrics-port", str(labels.METRICS_PORT),
        "--model", model,
        *(["--sha256", weights.sha256] if weights.sha256 is not None else []),
        *adapters.arguments(server.adapters or ()),
        *supplies.projector_arguments(server.mmproj),
        "--plan", f"{PLAN_FOLDER}/{PLAN_FILE}",
        "--api-keys", KEYS_FOLDER,
    ]  # fmt: skip
    if group is None:
        return [*front, "--", *written.argv(model)]
    endpoints = [f"{host}:{labels.RPC_PORT}" for host in group.workers]
    for endpoint in endpoints:
        front += ["--wait-for", endpoint]
    return [*front, "--", *argv.llama_server(written, model, endpoints)]


def _resources(plan: Plan, server: Server, *, worker: bool = False) -> Object:
    """Requests and limits of one pod.

    Weights that the engine maps from a file are page cache, which the kernel takes back when it needs room,
    so they are not asked for; what the plan keeps in host memory for good is.
    """
    gpus = plan.gpus_per_replica // plan.nodes_per_replica
    memory = HOST_ALLOWANCE
    if plan.memory is not None and not worker:
        memory += plan.memory.host.total + server.cache_ram
    asked = format_bytes(-(-memory // (256 * MIB)) * 256 * MIB)
    requests: dict[str, str] = {"cpu": str(1 + gpus), "memory": asked}
    limits: dict[str, str] = {"cpu": str(2 * (1 + gpus)), "memory": asked}
    if gpus:
        requests[labels.GPU_RESOURCE] = limits[labels.GPU_RESOURCE] = str(gpus)
    return {"requests": requests, "limits": limits}


def _group_labels(group: Group | None, role: str) -> dict[str, str]:
    if group is None:
        return {}
    return {labels.ROLE: role, **({} if group.replica is None else {REPLICA: str(group.replica)})}


def _own_name(group: Group | None) -> list[Object]:
    if group is None or group.own_name is None:
        return []
    field = {"apiVersion": "v1", "fieldPath": "metadata.name"}
    return [{"name": group.own_name, "valueFrom": {"fieldRef": field}}]


def _port(name: str, number: int) -> Object:
    return {"name": name, "containerPort": number, "protocol": "TCP"}


def _probe(path: str, port: str, *, failures: int, period: int = _PROBE_PERIOD_SECONDS) -> Object:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": failures,
    }
