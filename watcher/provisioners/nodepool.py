"""A NodePool in git: Karpenter makes the nodes as the pods come, and the watcher only looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from kube.objects import mapping, metadata
from watcher import failures, observed
from watcher.reasons import Reason
from watcher.scene import Blocked

if TYPE_CHECKING:
    from watcher.observed import Node
    from watcher.scene import Scene
    from watcher.world import Object


class NodePools:
    """`provisioning: nodepool`."""

    claims = None

    def blocked(self, scene: Scene) -> Blocked | None:
        """Say what is missing: the kind, the NodePool, or Karpenter's consent to it."""
        if scene.snapshot.served.get("nodepool") is None:
            other = "or set another `provisioning` in berth.yaml and render"
            message = f"the cluster serves no NodePool: install Karpenter, {other}"
            return Blocked(Reason.PROVISIONER_MISSING, message)
        pool = _pool(scene)
        if pool is None:
            message = f"NodePool {scene.reading.node_pool} is not there: sync the whole folder"
            return Blocked(Reason.NODE_POOL_MISSING, message)
        ready = observed.conditions(pool).get("Ready")
        if ready is not None and ready.get("status") == "False":
            why = failures.plain(ready.get("message") or ready.get("reason"))
            return Blocked(Reason.NODE_POOL_NOT_READY, f"NodePool {scene.reading.node_pool}: {why}")
        return None

    def given(self, scene: Scene, wanted: int) -> tuple[Node, ...]:
        """Return the NodePool's nodes, those with our pods first."""
        own = [
            node for node in scene.nodes.values()
            if node.labels.get(labels.NODE_POOL) == scene.reading.node_pool
        ]  # fmt: skip
        own.sort(key=lambda node: (not scene.pods_on.get(node.name), not node.ready, node.name))
        return tuple(own[:wanted])

    def needed(self, scene: Scene) -> int:
        """Return the planned nodes of a static NodePool, and what the replicas fill of a dynamic one."""
        plan, pool = scene.reading.plan, _pool(scene)
        if plan is None or pool is None or mapping(pool.get("spec")).get("replicas") is not None:
            return scene.count
        if not plan.gpus_per_replica:
            return min(scene.count, plan.replicas)
        per_node = max(1, plan.nodes.gpus_per_node // plan.gpus_per_replica)
        return min(scene.count, plan.nodes_per_replica * -(-plan.replicas // per_node))


def _pool(scene: Scene) -> Object | None:
    for one in scene.snapshot.node_pools:
        if metadata(one).get("name") == scene.reading.node_pool:
            return one
    return None
