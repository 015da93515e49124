"""Deployments and StatefulSets: how many pods, and how a rollout replaces them.

A replica on one node is a pod of a Deployment. A replica on several nodes is a leader and its workers, two
StatefulSets of its own, because their pods need names that the leader can dial, or part of a LeaderWorkerSet.
The engine's leader stops when a worker dies, so its front starts it anew and the group with it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from berth import labels, names
from berth.plans import canonical
from generator.charts import leaderworkersets, placing, pods
from generator.charts.frames import LEADER, REPLICA, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.plans import Plan, Server, Weights
    from generator.charts.frames import Frame, Object

_HISTORY = 3
"""Old revisions kept for a look back; git holds the rest."""
_PROGRESS_ALLOWANCE_SECONDS = 1800
"""A GPU node takes up to a quarter of an hour to come, and an image of some GB to be pulled."""


def workloads(frame: Frame, server: Server, weights: Weights) -> Iterator[Object]:
    """Yield the workloads of a preset."""
    if not frame.spans_nodes:
        start_seconds = pods.startup_failures(weights, pods.loaded(server)) * 10
        yield deployment(frame, pods.serving(frame, server, weights), start_seconds)
        return
    if frame.fleet.several_nodes == "leaderworkerset":
        notes = partial(carried, frame, frame.plan.replicas)
        yield leaderworkersets.leader_worker_set(frame, server, weights, notes)
        return
    for replica in range(frame.plan.replicas):
        yield from _group(frame, server, weights, replica)


def deployment(frame: Frame, template: Object, start_seconds: int) -> Object:
    """Return the Deployment; a surge that the planned GPUs can't hold is never rendered."""
    return frame.object(
        "apps/v1",
        "Deployment",
        frame.name,
        annotations=carried(frame, frame.plan.replicas, template),
        extra_labels=pods.queue_label(frame),
        spec={
            "replicas": frame.plan.replicas,
            "selector": {"matchLabels": frame.selector},
            "strategy": strategy(frame.plan),
            "progressDeadlineSeconds": _PROGRESS_ALLOWANCE_SECONDS + start_seconds,
            "revisionHistoryLimit": _HISTORY,
            "template": template,
        },
    )


def strategy(plan: Plan) -> Object:
    """Return how pods are replaced, by what the planned nodes can hold meanwhile."""
    if plan.surge:
        return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    if plan.replicas > 1:
        return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    return {"type": "Recreate"}


def carried(frame: Frame, replicas: int, *templates: Object) -> dict[str, str]:
    """Return the annotations with which admission compares a workload.

    Those are the pods' own, the nodes, and command and image of the engine's containers: a new berth changes
    these two without a new plan, so they stand beside the pods' copy of it and not inside.
    """
    plan = frame.plan
    if plan.server is None:
        return {}
    nodes: dict[str, Any] = {"replicas": replicas}
    if plan.nodes.provisioning != "none" and plan.nodes.instance_type is not None:
        nodes["instanceTypes"] = placing.instance_types(frame)
    found = {**pods.carried(plan), labels.NODES: canonical(nodes)}
    engines = [template["spec"]["containers"][0] for template in templates]
    rendered = {one["name"]: {key: one[key] for key in ("command", "image")} for one in engines}
    return {**found, labels.CONTAINER: canonical(rendered)}


def headless_name(frame: Frame) -> str:
    """Return the name of the Service that gives the pods of several nodes their host names."""
    return names.part(frame.workspace.name, "headless")


def _group(frame: Frame, server: Server, weights: Weights, replica: int) -> Iterator[Object]:
    leader = names.part(frame.workspace.name, str(replica), names.LONGEST_STATEFUL_SET)
    workers = names.part(frame.workspace.name, f"{replica}-workers", names.LONGEST_STATEFUL_SET)
    count = frame.plan.nodes_per_replica - 1
    # The pod's search domains add the namespace, so that an absent one may stay absent.
    hosts = tuple(f"{workers}-{index}.{headless_name(frame)}" for index in range(count))
    group = pods.Group(replica, hosts)
    yield _stateful_set(frame, leader, LEADER, replica, 1, pods.serving(frame, server, weights, group))
    yield _stateful_set(frame, workers, WORKER, replica, count, pods.worker(frame, server, group))


def _stateful_set(frame: Frame, name: str, role: str, replica: int, count: int, template: Object) -> Object:
    which = {labels.ROLE: role, REPLICA: str(replica)}
    return frame.object(
        "apps/v1",
        "StatefulSet",
        name,
        annotations=carried(frame, count, template),
        extra_labels={**pods.queue_label(frame), **which},
        spec={
            "serviceName": headless_name(frame),
            "replicas": count,
            "selector": {"matchLabels": {**frame.selector, **which}},
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "revisionHistoryLimit": _HISTORY,
            "template": template,
        },
    )
