"""What replacing one plan by another does to those who ask the model meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from berth.plans import Plan

_OTHER_WORKLOAD = (
    "moves between one node and several, from a Deployment to StatefulSets or back: an interruption; "
    "without pruning the old ones stay and hold their GPUs"
)
_ONLY_REPLICA = (
    "restarts its only replica, since the plan has no GPUs for a second one: an interruption, until the new "
    "pod has loaded the model"
)
_GROUPS = (
    "restarts all its replicas together, as each spans several nodes: an interruption, until one has loaded"
)


def interruption(before: Plan, after: Plan) -> str | None:
    """Return in one sentence why requests will fail during the change, or None where none needs to.

    Several replicas are replaced one after the other, and a plan with spare GPUs starts the new pod first, so
    both go on answering.
    """
    if before.server is None or after.server is None:
        return None
    if (before.nodes_per_replica > 1) != (after.nodes_per_replica > 1):
        return _OTHER_WORKLOAD
    if before.server_digest == after.server_digest:
        return None
    if after.nodes_per_replica > 1:
        return _GROUPS
    return None if after.surge or min(before.replicas, after.replicas) > 1 else _ONLY_REPLICA
