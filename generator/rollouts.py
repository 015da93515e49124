"""What replacing one plan by another does to those who ask the model meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.fleet import Fleet

if TYPE_CHECKING:
    from berth.plans import Plan

_OTHER_WORKLOAD = (
    "moves from {} to {}, another kind of workload: an interruption; without pruning the old ones stay and "
    "hold their GPUs"
)
_KINDS = {"deployment": "a Deployment", "statefulset": "StatefulSets", "leaderworkerset": "a LeaderWorkerSet"}
_ONLY_REPLICA = (
    "restarts its only replica, since the plan has no GPUs for a second one: an interruption, until the new "
    "pod has loaded the model"
)
_GROUPS = (
    "restarts all its replicas together, as each spans several nodes: an interruption, until one has loaded"
)


def interruption(before: Plan, after: Plan, fleets: tuple[Fleet, Fleet] = (Fleet(), Fleet())) -> str | None:
    """Return in one sentence why requests will fail during the change, or None where none needs to.

    Several replicas are replaced one after the other, those of a LeaderWorkerSet too, whose `maxUnavailable`
    counts groups. A plan with spare GPUs starts the new pod first. Both go on answering. The StatefulSets of
    several groups know nothing of each other.
    """
    if before.server is None or after.server is None:
        return None
    was, now = _kind(before, fleets[0]), _kind(after, fleets[1])
    if was != now:
        return _OTHER_WORKLOAD.format(_KINDS[was], _KINDS[now])
    if before.server_digest == after.server_digest:
        return None
    if now == "statefulset" and after.replicas > 1:
        return _GROUPS
    return None if after.surge or min(before.replicas, after.replicas) > 1 else _ONLY_REPLICA


def _kind(plan: Plan, fleet: Fleet) -> str:
    return "deployment" if plan.nodes_per_replica == 1 else fleet.several_nodes
