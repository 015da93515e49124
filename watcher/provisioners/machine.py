"""Machines of karpenter.sh/v1alpha5, as KAITO's first releases made them for the gpu-provisioner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels
from watcher.provisioners import claims

if TYPE_CHECKING:
    from watcher.scene import Scene
    from watcher.world import Object

_PROVISIONER = "karpenter.sh/provisioner-name"


class Machines(claims.Kind):
    """The claims of `provisioning: machine`."""

    kind = "Machine"
    way = "machine"
    install = "the gpu-provisioner of Machines, or write `provisioning: nodeclaim` in berth.yaml and render"

    def body(self, scene: Scene, index: int, attempt: int, instance_type: str) -> Object:
        """Return a Machine."""
        meta = claims.named(scene, index, attempt, {_PROVISIONER: "default"})
        return {
            "apiVersion": scene.snapshot.served.get(self.way) or "karpenter.sh/v1alpha5",
            "kind": self.kind,
            "metadata": meta,
            "spec": {
                "machineTemplateRef": {"name": meta["name"]},
                "requirements": [
                    claims.within(labels.INSTANCE_TYPE, instance_type),
                    claims.within(_PROVISIONER, "default"),
                    claims.within("kaito.sh/machine-type", "gpu"),
                    claims.within("kubernetes.io/arch", "amd64"),
                    claims.within("kubernetes.io/os", "linux"),
                ],
                "taints": [dict(claims.TAINT)],
                "resources": {"requests": {"storage": claims.disk(scene)}},
            },
        }
