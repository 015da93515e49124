"""NodeClaims of karpenter.sh/v1: Azure's gpu-provisioner, Karpenter and its forks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from watcher.provisioners import claims
from watcher.reasons import Reason
from watcher.scene import Blocked

if TYPE_CHECKING:
    from watcher.scene import Scene
    from watcher.world import Object

_KAITO = "kaito.sh"
"""Group of the node class that only the gpu-provisioner knows."""


class NodeClaims(claims.Kind):
    """The claims of `provisioning: nodeclaim`."""

    kind = "NodeClaim"
    way = "nodeclaim"
    install = "Karpenter or Azure's gpu-provisioner, or set another `provisioning` in berth.yaml and render"

    def blocked(self, scene: Scene) -> Blocked | None:
        """Say what is missing of the kind or of the node class."""
        if scene.fleet.new_node_class is None and scene.snapshot.served.get(self.way) is not None:
            message = "no node class is known: write `nodeClass` in berth.yaml"
            return Blocked(Reason.NODE_CLASS_MISSING, message)
        return super().blocked(scene)

    def body(self, scene: Scene, index: int, attempt: int, instance_type: str) -> Object:
        """Return a NodeClaim; all of its spec is fixed once it is made."""
        node_class = scene.fleet.new_node_class
        plan = scene.reading.plan
        if node_class is None or plan is None:
            raise ValueError("a NodeClaim needs a plan and a node class")
        requirements = [
            claims.within(labels.NODE_POOL, labels.KAITO_POOL),
            claims.within(labels.INSTANCE_TYPE, instance_type),
            claims.within("kubernetes.io/os", "linux"),
        ]
        if scene.fleet.cloud == "azure":
            requirements.append(claims.within("karpenter.azure.com/sku-name", instance_type))
        elif scene.fleet.cloud == "aws":
            key = "karpenter.k8s.aws/instance-gpu-count"
            requirements.append({"key": key, "operator": "Gt", "values": ["0"]})
        meta = claims.named(scene, index, attempt, {labels.NODE_POOL: labels.KAITO_POOL})
        meta["annotations"] |= {"karpenter.sh/do-not-disrupt": "true"}
        # The gpu-provisioner takes the OS disk from `storage`. Karpenter launches only what has every
        # requested resource, and knows a node's disk as ephemeral storage.
        requests = {"storage" if node_class.group == _KAITO else "ephemeral-storage": claims.disk(scene)}
        if node_class.group != _KAITO and plan.nodes.gpus_per_node:
            requests[labels.GPU_RESOURCE] = str(_gpus(scene, instance_type))
        return {
            "apiVersion": scene.snapshot.served.get(self.way) or "karpenter.sh/v1",
            "kind": self.kind,
            "metadata": meta,
            "spec": {
                "nodeClassRef": {
                    "group": node_class.group,
                    "kind": node_class.kind,
                    "name": node_class.name,
                },
                "requirements": requirements,
                "taints": [dict(claims.TAINT)],
                "resources": {"requests": requests},
                "expireAfter": "Never",
            },
        }


def _gpus(scene: Scene, instance_type: str) -> int:
    """A fallback may have other GPUs than the planned type, so only the planned one's are asked for."""
    plan = scene.reading.plan
    if plan is None or instance_type != plan.nodes.instance_type:
        return 1
    return plan.nodes.gpus_per_node
