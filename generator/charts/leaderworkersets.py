"""A model over several nodes as one LeaderWorkerSet, for clusters that run its controller.

The controller makes a StatefulSet for all leaders and one for the workers of each, and the Service behind
their host names, all called after the set: leader `set-0`, its workers `set-0-1`, `set-0-2`. So one template
serves every replica, and a leader finds its own workers by its own name. A group forms itself anew when one
of its pods died (the front sees to it), so the controller need not recreate all of it. Fields and names are
those of `leaderworkerset.x-k8s.io/v1` (github.com/kubernetes-sigs/lws, read 2026-11-28).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import names
from generator.charts import pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.plans import Server, Weights
    from generator.charts.frames import Frame, Object

KIND = "LeaderWorkerSet"
_OWN_NAME = "BERTH_POD"
_LONGEST = names.LONGEST_STATEFUL_SET - 4
"""The StatefulSets of the workers are called `<name>-<replica>`."""


def leader_worker_set(
    frame: Frame, server: Server, weights: Weights, annotations: Callable[..., dict[str, str]]
) -> Object:
    """Return the set of all replicas; without spare nodes none is made before another is gone."""
    name = names.part(frame.workspace.name, "group", _LONGEST)
    count = frame.plan.nodes_per_replica
    hosts = tuple(f"$({_OWN_NAME})-{index}.{name}" for index in range(1, count))
    group = pods.Group(None, hosts, own_name=_OWN_NAME)
    leader, worker = pods.serving(frame, server, weights, group), pods.worker(frame, server, group)
    return frame.object(
        "leaderworkerset.x-k8s.io/v1",
        KIND,
        name,
        annotations=annotations(leader, worker),
        extra_labels=pods.queue_label(frame),
        spec={
            "replicas": frame.plan.replicas,
            "leaderWorkerTemplate": {
                "size": count,
                "restartPolicy": "None",
                "leaderTemplate": leader,
                "workerTemplate": worker,
            },
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            # The leader is ready only with its workers, so they can't wait for it.
            "startupPolicy": "LeaderCreated",
            "networkConfig": {"subdomainPolicy": "Shared"},
        },
    )
