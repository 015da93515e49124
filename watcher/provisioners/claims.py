"""What NodeClaims and Machines share: labels, and when a claim is no longer what the plan wants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from berth import labels
from berth.quantities import GIB
from watcher import records
from watcher.provisioners import existing
from watcher.reasons import Reason
from watcher.scene import Blocked

if TYPE_CHECKING:
    from watcher.observed import Claim, Node
    from watcher.scene import Scene
    from watcher.world import ClaimKind, Object

DISK_SLACK = 0.9
"""A claim with this part of the planned disk stays: a node is not replaced for a few GiB."""
_NODES_OWN = frozenset({labels.HOSTNAME, labels.INSTANCE_TYPE, "kubernetes.io/arch", "kubernetes.io/os"})
"""Labels that a node gives itself; a claim must not set them."""
TAINT = {"key": labels.GPU_TAINT_KEY, "value": labels.GPU_TAINT_VALUE, "effect": "NoSchedule"}


class Kind(ABC):
    """One kind of claim."""

    kind: ClaimKind
    way: str
    """The name of this way in the fleet file, and its kind's in the cluster's discovery."""
    install: str
    """What serves the kind where nobody does, as the end of a sentence."""

    @abstractmethod
    def body(self, scene: Scene, index: int, attempt: int, instance_type: str) -> Object:
        """Return the claim for one node."""

    def blocked(self, scene: Scene) -> Blocked | None:
        """Say that the cluster does not serve the kind, if so."""
        if scene.snapshot.served.get(self.way) is None:
            message = f"the cluster serves no {self.kind}: install {self.install}"
            return Blocked(Reason.PROVISIONER_MISSING, message)
        return None

    def fits(self, scene: Scene, claim: Claim) -> bool:
        """Say whether a claim has the plan's instance type, labels and, nearly, disk."""
        plan = scene.reading.plan
        return (
            plan is not None
            and claim.kind == self.kind
            and claim.instance_type in scene.reading.instance_types
            and tags(scene).items() <= claim.labels.items()
            and claim.disk >= plan.nodes.disk * DISK_SLACK
        )


class Claiming:
    """`provisioning: nodeclaim` and `provisioning: machine`: one claim for each node."""

    def __init__(self, claims: Kind) -> None:
        self.claims = claims

    def blocked(self, scene: Scene) -> Blocked | None:
        """Say what the cluster or the fleet file lacks for this kind of claim."""
        return self.claims.blocked(scene)

    def given(self, scene: Scene, wanted: int) -> tuple[Node, ...]:
        """Return nodes of somebody else's making that match, as KAITO counts them."""
        return existing.select(scene, wanted, strict=True)

    def needed(self, scene: Scene) -> int:
        """Every planned node."""
        return scene.count


def tags(scene: Scene) -> dict[str, str]:
    """Return the labels of a claim, which become its node's: the plan's, KAITO's and the uid."""
    plan = scene.reading.plan
    wanted = plan.nodes.labels if plan is not None else {}
    return {
        **{key: value for key, value in wanted.items() if key not in _NODES_OWN},
        labels.WORKSPACE: scene.object_name,
        labels.WORKSPACE_NAMESPACE: scene.namespace,
        labels.WORKSPACE_UID: scene.uid,
    }


def named(scene: Scene, index: int, attempt: int, more: dict[str, str]) -> Object:
    """Return the metadata of a claim, with the labels of its kind."""
    return {
        "name": records.name(scene.uid, index, attempt),
        "labels": {**tags(scene), **more},
        "annotations": {labels.INDEX: str(index), labels.ATTEMPT: str(attempt)},
    }


def within(key: str, value: str) -> Object:
    """Return a requirement of one value."""
    return {"key": key, "operator": "In", "values": [value]}


def disk(scene: Scene) -> str:
    """Return the node's disk as a quantity of whole GiB."""
    plan = scene.reading.plan
    return f"{-(-(plan.nodes.disk if plan is not None else 0) // GIB)}Gi"
