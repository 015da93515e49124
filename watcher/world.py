"""What one pass over one Workspace may look at, and what it may ask for. Everything here is a value.

The shell fills a `Snapshot` from its caches and carries out the `Decision`; `reconcile.decide` stands between
them and touches nothing. So every way in which nodes are made and removed can be tried without a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]
"""A Kubernetes object as JSON data."""

ClaimKind = Literal["NodeClaim", "Machine"]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Amount:
    """What some claims take together, the terminating ones too: they cost until they are gone."""

    nodes: int = 0
    gpus: int = 0
    cost_per_hour: float = 0.0
    creates: int = 0
    """Claims made in the last hour, whether they are still there or not."""

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.nodes + other.nodes,
            self.gpus + other.gpus,
            self.cost_per_hour + other.cost_per_hour,
            self.creates + other.creates,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What all Workspaces' claims take now, in the cluster and in this Workspace's namespace."""

    cluster: Amount = Amount()
    namespace: Amount = Amount()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one pass may look at.

    What this process wrote counts as seen: a claim that it created is among `claims` until the cache shows it
    or the API server says that it is gone, and `workspace` is never older than its own last status patch.
    """

    workspace: Object
    claims: tuple[Object, ...] = ()
    """NodeClaims and Machines with this Workspace's uid label, or with its name and namespace as KAITO
    labels them, or with its NodePool's label; the terminating ones too."""
    nodes: tuple[Object, ...] = ()
    """The nodes of those claims, the nodes in `status.workerNodes` and those with the plan's labels."""
    pods: tuple[Object, ...] = ()
    workloads: tuple[Object, ...] = ()
    """Deployments and StatefulSets of the Workspace."""
    services: tuple[Object, ...] = ()
    ingresses: tuple[Object, ...] = ()
    """Ingresses and HTTPRoutes."""
    node_pools: tuple[Object, ...] = ()
    served: Mapping[str, str | None] = field(default_factory=lambda: _NOTHING)
    """By `nodeclaim`, `machine` and `nodepool`: the apiVersion that the cluster serves, or None. A discovery
    that failed is no answer: then there is no pass."""
    taken: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    """Node name → uid of another Workspace that counts the node; of several that do, the oldest has it."""
    usage: Usage = Usage()
    live: bool = False
    """Whether `claims` was read from the API server for this pass, as a deletion needs it."""
    refused: str = ""
    """Why the API server let no claim be made or removed a moment ago; then none is in this pass."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the watcher may make; None is no limit."""

    nodes: int | None = None
    cost_per_hour: float | None = None
    creates_per_hour: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What one node of an instance type has and costs; None where no price is known."""

    gpus: int
    per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Rails:
    """What holds the watcher back, whatever the Workspaces say."""

    cluster: Limits = Limits()
    namespaces: Mapping[str, Limits] = field(default_factory=lambda: _NOTHING)
    prices: Mapping[str, Price] = field(default_factory=lambda: _NOTHING)
    """By instance type, for every type of the fleet's catalogue."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Put our finalizer on the Workspace; comes before the first create."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Take our finalizer, and no other, off the Workspace."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make a claim; if the name is taken by a claim with the same uid label, it is ours already."""

    kind: ClaimKind
    body: Object


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete exactly this claim: another one under its name stays."""

    kind: ClaimKind
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An Event about the Workspace."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """A JSON merge patch of the Workspace's `status`, with null for what goes."""

    status: Object


Action = AddFinalizer | RemoveFinalizer | Create | Delete | Tell | PatchStatus


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in this order: if one fails, what follows it is not done in this pass."""

    actions: tuple[Action, ...] = ()
    again_s: float | None = None
    """Seconds after which time alone makes another pass worth while."""
    workers: tuple[str, ...] = ()
    """Nodes that this Workspace counts now; no other Workspace's pass may, from this moment on."""
    outcome: str = ""
    """The reason of the `Ready` condition, for the metrics."""
