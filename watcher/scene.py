"""One Workspace with everything around it, read once; every decision of a pass looks at this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from berth import labels, names
from kube.objects import items, mapping, metadata, notes_of
from watcher import observed, plans, records

if TYPE_CHECKING:
    from datetime import datetime

    from berth.fleet import Fleet
    from watcher.observed import Claim, Node
    from watcher.reasons import Reason
    from watcher.records import Entry
    from watcher.world import Object, Snapshot


@dataclass(frozen=True)
class Blocked:
    """Why no node is made or removed, though one should be."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Scene:
    """A snapshot and the fleet file, as values that are worked out when they are first asked for."""

    snapshot: Snapshot
    fleet: Fleet
    now: datetime

    @cached_property
    def reading(self) -> plans.Reading:
        """The plan, and whether it may be obeyed."""
        return plans.read(self.snapshot.workspace)

    @property
    def name(self) -> str:
        """The Workspace's name."""
        return str(metadata(self.snapshot.workspace).get("name", ""))

    @property
    def namespace(self) -> str:
        """The Workspace's namespace."""
        return str(metadata(self.snapshot.workspace).get("namespace") or "default")

    @property
    def uid(self) -> str:
        """The Workspace's uid, by which its claims are known."""
        return str(metadata(self.snapshot.workspace).get("uid", ""))

    @property
    def object_name(self) -> str:
        """The name of the Workspace's Deployment and Service, and its label's value."""
        return names.fitted(self.name)

    @property
    def deleting(self) -> bool:
        """Whether somebody deleted the Workspace, so that its claims go."""
        return bool(metadata(self.snapshot.workspace).get("deletionTimestamp"))

    @property
    def paused(self) -> bool:
        """Whether an annotation keeps all claims as they are."""
        return str(notes_of(self.snapshot.workspace).get(labels.PAUSED, "")).lower() == "true"

    @property
    def has_finalizer(self) -> bool:
        """Whether our finalizer, and not only somebody else's, is on the Workspace."""
        return labels.FINALIZER in items(metadata(self.snapshot.workspace).get("finalizers"))

    @property
    def count(self) -> int:
        """Nodes that the plan asks for."""
        return self.reading.plan.nodes.count if self.reading.plan is not None else 0

    @cached_property
    def status(self) -> Object:
        """The status that was written last."""
        return dict(mapping(self.snapshot.workspace.get("status")))

    @cached_property
    def entries(self) -> dict[int, Entry]:
        """What the status remembers of each node."""
        return records.read(self.status)

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Our claims, the terminating ones too."""
        return tuple(one for one in self._all_claims if one.ours)

    @cached_property
    def foreign(self) -> tuple[Claim, ...]:
        """Claims that look like this Workspace's and were not made by berth."""
        return tuple(one for one in self._all_claims if not one.ours and one not in self.of_pool)

    @cached_property
    def of_pool(self) -> tuple[Claim, ...]:
        """Claims that Karpenter made for the NodePool that was rendered."""
        if self.reading.provisioning != "nodepool":
            return ()
        name = self.reading.node_pool
        return tuple(one for one in self._all_claims if one.labels.get(labels.NODE_POOL) == name)

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every node of the snapshot, by name."""
        return {one.name: one for one in map(observed.node, self.snapshot.nodes)}

    @cached_property
    def pods_on(self) -> dict[str, int]:
        """How many of the Workspace's pods each node holds."""
        return observed.running(self.snapshot.pods)

    @cached_property
    def workers(self) -> tuple[str, ...]:
        """The nodes that the Workspace counted last."""
        return tuple(str(one) for one in items(self.status.get("workerNodes")))

    @cached_property
    def _all_claims(self) -> tuple[Claim, ...]:
        return observed.claims(self.snapshot)
