"""Where the replicas of a Workspace go: one question, with all that its answer depends on.

The planner asks it for the spec as it stands. A refusal asks it again for what may be written instead, so
that nothing is proposed that would be refused in its turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from berth import choosing, fitting
from berth.errors import InvalidSettings
from berth.plans import CACHE_RAM, HOST_ALLOWANCE

if TYPE_CHECKING:
    from berth.catalog import Catalog
    from berth.fitting import Demand, Fit
    from berth.fleet import Fleet
    from berth.instances import InstanceType
    from berth.workspaces import Workspace


@dataclass(frozen=True, slots=True)
class Case:
    """What a spec asks: replicas of a demand, on `count` nodes of the named instance type or one in `pool`.

    `joined` says whether several nodes may serve one replica together.
    """

    demand: Demand
    instance: InstanceType | None
    pool: tuple[InstanceType, ...]
    count: int | None
    replicas: int | None
    joined: bool

    @property
    def most_nodes(self) -> int:
        """Nodes that one replica may take."""
        most = fitting.MOST_NODES_PER_REPLICA
        return min(self.count or most, most) if self.joined else 1

    @property
    def least_on_host(self) -> int:
        """Bytes of a node's own memory that taking images asks for, whatever the instance type."""
        images = self.demand.images
        return HOST_ALLOWANCE + CACHE_RAM + images.host if images is not None else 0

    @property
    def roomy(self) -> tuple[InstanceType, ...]:
        """Those of the pool whose own memory is not too small for certain."""
        return tuple(one for one in self.pool if self.least_on_host <= (one.memory or inf))

    def fit(self) -> Fit | None:
        """Return one replica on the fewest GPUs, of the cheapest instance type where none is named."""
        if self.instance is not None:
            return fitting.smallest(self.demand, self.instance, self.most_nodes)
        chosen = choosing.cheapest(self.demand, self.roomy, self.replicas or 1, self.count, self.most_nodes)
        return chosen.fit if chosen is not None else None

    def room(self, fit: Fit) -> int | None:
        """Return the replicas that the given nodes hold; None where the replicas decide about nodes."""
        if self.count is None:
            return None
        return self.count // fit.nodes if fit.nodes > 1 else self.count * fit.replicas_per_node

    def nodes_and_replicas(self, fit: Fit) -> tuple[int, int]:
        """Return how many there are: given nodes are filled, otherwise the replicas decide."""
        room = self.room(fit)
        if self.count is None or room is None:
            replicas = self.replicas or 1
            return choosing.nodes_for(fit, replicas), replicas
        return self.count, self.replicas or room

    def holds_on_host(self, fit: Fit, instance: InstanceType) -> bool:
        """Return whether a node has the memory that its pods ask for, which taking images makes much."""
        nodes, replicas = self.nodes_and_replicas(fit)
        return self._hosts(fit, instance, -(-replicas // nodes))

    def room_for_surge(self, fit: Fit) -> bool:
        """Return whether one replica more can start beside the others, wherever those happen to be."""
        nodes, replicas = self.nodes_and_replicas(fit)
        return (
            fit.nodes == 1
            and nodes * fit.replicas_per_node > replicas
            and self._hosts(fit, fit.instance, min(fit.replicas_per_node, replicas + 1))
        )

    def _hosts(self, fit: Fit, instance: InstanceType, pods: int) -> bool:
        if self.demand.images is None or instance.memory is None:
            return True
        return pods * fit.host_memory <= instance.memory

    def stands(self) -> bool:
        """Return whether the planner would take a spec that asks this."""
        return _stands(self)


@lru_cache(maxsize=4_096)
def _stands(case: Case) -> bool:
    images = case.demand.images
    if images is not None and images.tokens >= case.demand.wanted_context:
        return False
    try:
        smallest = case.fit()
        if smallest is None:
            return False
        # a context that is as large as fits only matters to a node's own memory, and takes long to find
        fit = smallest if images is None else fitting.with_context(case.demand, smallest)
    except InvalidSettings:
        return False
    room = case.room(fit)
    if room is not None and (case.replicas or 1) > room:
        return False
    return case.holds_on_host(fit, fit.instance)


def case(
    workspace: Workspace, demand: Demand, instance: InstanceType | None, catalog: Catalog, fleet: Fleet
) -> Case:
    """Return what a Workspace asks.

    Several nodes serve one replica only where the network keeps strangers from the engine's RPC, and none
    that takes images: the engine has its projector on a GPU of its own node, and counts those of other nodes
    first.
    """
    return Case(
        demand=demand,
        instance=instance,
        pool=() if instance is not None else tuple(candidates(catalog, fleet)),
        count=workspace.resource.count,
        replicas=workspace.inference.llamacpp.replicas,
        joined=fleet.network_policy == "enforced" and workspace.inference.llamacpp.mmproj is None,
    )


def candidates(catalog: Catalog, fleet: Fleet) -> list[InstanceType]:
    """Return the instance types that may be chosen where a spec names none."""
    own = [catalog.instance_type(entry["name"]) for entry in fleet.instance_types]
    if fleet.provisioning == "none" and own:
        return own
    return choosing.usable(catalog.instance_types.values(), fleet.cloud)


def elsewhere(case: Case, catalog: Catalog) -> InstanceType | None:
    """Return the cheapest other instance type of the same cloud on which the replicas stand, if any."""
    if case.instance is None:
        return None
    pool = tuple(choosing.usable(catalog.instance_types.values(), case.instance.cloud))
    try:
        found = replace(case, instance=None, pool=pool).fit()
    except InvalidSettings:
        return None
    if found is None or not replace(case, instance=found.instance).stands():
        return None
    return found.instance


def smaller_context(case: Case, instance: InstanceType) -> int | None:
    """Return a smaller context per slot, nearly the largest with which the replicas stand, if any."""
    wanted, replicas = case.demand.wanted_context, case.replicas or 1
    for gpus in reversed(fitting.counts(case.demand, instance, case.most_nodes)):
        if case.count is not None and choosing.nodes_of(instance, gpus, replicas) > case.count:
            continue
        context = fitting.largest_context(case.demand, instance, gpus, wanted, nearly=True)
        if not fitting.SMALLEST_CONTEXT <= context < wanted:
            continue
        if replace(case, demand=fitting.with_context_size(case.demand, context)).stands():
            return context
    return None


def other_quantization(case: Case, names: list[str], *, smaller: bool) -> str | None:
    """Return the one of these quantizations that is nearest in size and with which the replicas stand."""
    size = case.demand.layout.size
    others = (fitting.with_quantization(case.demand, name) for name in names)
    smaller = smaller or not case.stands()
    usable = [other for other in others if other.layout.size < size or not smaller]
    for other in sorted(usable, key=lambda one: (abs(one.layout.size - size), one.quantization)):
        if other.quantization != case.demand.quantization and replace(case, demand=other).stands():
            return other.quantization
    return None
