"""Who makes nodes, behind one small interface: claims of two kinds, a NodePool in git, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from watcher.provisioners.claims import Claiming
from watcher.provisioners.existing import Existing
from watcher.provisioners.machine import Machines
from watcher.provisioners.nodeclaim import NodeClaims
from watcher.provisioners.nodepool import NodePools

if TYPE_CHECKING:
    from watcher.observed import Claim, Node
    from watcher.scene import Blocked, Scene
    from watcher.world import ClaimKind, Object


class Claims(Protocol):
    """Objects of one kind, each of which asks for one node."""

    @property
    def kind(self) -> ClaimKind:
        """The kind of object."""

    def body(self, scene: Scene, index: int, attempt: int, instance_type: str) -> Object:
        """Return the claim for one node."""

    def fits(self, scene: Scene, claim: Claim) -> bool:
        """Say whether a claim is one that the plan would make today."""


class Provisioner(Protocol):
    """What the watcher needs to know of a way to get nodes; it touches nothing."""

    @property
    def claims(self) -> Claims | None:
        """What asks for the nodes; None where the watcher makes no claim."""

    def blocked(self, scene: Scene) -> Blocked | None:
        """Say why this way is closed in this cluster, if it is."""

    def given(self, scene: Scene, wanted: int) -> tuple[Node, ...]:
        """Return at most so many nodes that count without a claim of ours."""

    def needed(self, scene: Scene) -> int:
        """Return how many nodes have to be ready, now that the pods are as they are."""


WAYS: dict[str, Provisioner] = {
    "nodeclaim": Claiming(NodeClaims()),
    "machine": Claiming(Machines()),
    "nodepool": NodePools(),
    "none": Existing(),
}
"""By what the fleet file and the plan call `provisioning`."""
