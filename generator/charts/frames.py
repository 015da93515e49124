"""What every object of one Workspace shares: names, namespace, labels and provenance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from berth import labels, names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from berth.fleet import Fleet
    from berth.plans import Plan
    from berth.workspaces import PodSettings, Workspace

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON data."""

LEADER, WORKER = "leader", "worker"
REPLICA = "berth.dev/replica"
"""Label of a pod on several nodes: which copy of the model it belongs to."""


@dataclass(frozen=True)
class Frame:
    """One Workspace with everything that its objects are made from."""

    plan: Plan
    workspace: Workspace
    fleet: Fleet

    @property
    def name(self) -> str:
        """The name of Deployment, Service and everything else that there is one of."""
        return names.fitted(self.workspace.name)

    @property
    def namespace(self) -> str | None:
        return self.workspace.namespace

    @property
    def spans_nodes(self) -> bool:
        """Whether one replica needs several nodes."""
        return self.plan.nodes_per_replica > 1

    @cached_property
    def pod(self) -> PodSettings:
        """The Workspace's pod settings on top of the fleet's."""
        return self.workspace.inference.llamacpp.pod.over(self.fleet.pod)

    @property
    def selector(self) -> dict[str, str]:
        """Finds every pod of the Workspace; nothing of the spec is in it, so the spec may change."""
        return {labels.WORKSPACE: self.name}

    @property
    def labels(self) -> dict[str, str]:
        """Labels of every object."""
        return {
            labels.NAME: self.name,
            labels.COMPONENT: "inference",
            labels.MANAGED_BY: "berth",
            labels.PART_OF: "berth",
            labels.WORKSPACE: self.name,
        }

    @property
    def provenance(self) -> dict[str, str]:
        """What the object was made from; the version of berth stands in the folder's lock file instead."""
        found = {
            labels.SPEC_DIGEST: self.plan.spec_digest,
            labels.CATALOG_DIGEST: self.plan.catalog_digest,
        }
        if self.plan.fleet_digest is not None:
            found[labels.FLEET_DIGEST] = self.plan.fleet_digest
        return found

    def object(
        self,
        api_version: str,
        kind: str,
        name: str,
        *,
        annotations: Mapping[str, str] | None = None,
        extra_labels: Mapping[str, str] | None = None,
        namespaced: bool = True,
        **fields: Any,
    ) -> Object:
        """Return an object with metadata; an absent namespace stays absent."""
        metadata: Object = {"name": name}
        if namespaced and self.namespace is not None:
            metadata["namespace"] = self.namespace
        metadata["labels"] = {**self.labels, **(extra_labels or {})}
        metadata["annotations"] = {**(annotations or {}), **self.provenance}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
