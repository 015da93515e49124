"""Which instance type a Workspace takes when its spec names none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth import fitting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from berth.fitting import Demand, Fit
    from berth.instances import InstanceType

OLDEST_COMPUTE_CAPABILITY = 7.0
"""CUDA 12 builds of the engine start at Volta; see docs/decisions."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A fit with the nodes that the asked replicas take on its instance type."""

    fit: Fit
    nodes: int

    @property
    def price_per_hour(self) -> float | None:
        price = self.fit.instance.price
        return None if price is None else float(price.per_hour) * self.nodes

    @property
    def gpus(self) -> int:
        return self.nodes * self.fit.instance.gpu_count


def usable(instances: Iterable[InstanceType], cloud: str | None) -> list[InstanceType]:
    """Return the instance types to choose from: the cloud's own, current, and no special ones."""
    return [
        instance
        for instance in instances
        if (cloud is None or instance.cloud == cloud)
        and not instance.retired
        and instance.automatic
        and instance.compute_capability >= OLDEST_COMPUTE_CAPABILITY
    ]


def cheapest(
    demand: Demand, instances: Iterable[InstanceType], replicas: int, count: int | None, most_nodes: int
) -> Choice | None:
    """Return the cheapest instance type that holds the replicas, if any.

    A replica's weights and cache say how few GPUs it takes at best, and that what an instance type costs at
    least. So the exact measuring, which takes time, begins with the most promising and ends early.
    """
    search = _Search(demand, replicas, count, most_nodes if count is None else min(most_nodes, count))
    hopeful = [
        (instance, nodes) for instance in instances if (nodes := search.at_least(instance)) is not None
    ]
    unpriced = [entry for entry in hopeful if entry[0].price is None]
    if search.first(unpriced, priced=False) is not None:
        return search.first(hopeful, priced=False)
    return search.first([entry for entry in hopeful if entry[0].price is not None], priced=True)


@dataclass(frozen=True, slots=True)
class _Search:
    """One search for the cheapest."""

    demand: Demand
    replicas: int
    count: int | None
    most_nodes: int

    def at_least(self, instance: InstanceType) -> int | None:
        """The nodes that are taken at least; None where the replicas can't fit."""
        gpus = fitting.fewest(self.demand, instance, self.most_nodes)
        return None if gpus is None else self._nodes(instance, gpus)

    def first(self, hopeful: Iterable[tuple[InstanceType, int]], *, priced: bool) -> Choice | None:
        """The first in order that really fits."""
        best: tuple[_Rank, Choice] | None = None
        ranked = [(_rank(instance, nodes, priced), instance) for instance, nodes in hopeful]
        for rank, instance in sorted(ranked, key=lambda entry: entry[0]):
            if best is not None and best[0] < rank:
                break
            fit = fitting.smallest(self.demand, instance, self.most_nodes)
            nodes = None if fit is None else self._nodes(instance, fit.gpus)
            if fit is None or nodes is None:
                continue
            if best is None or _rank(instance, nodes, priced) < best[0]:
                best = _rank(instance, nodes, priced), Choice(fit, nodes)
        return None if best is None else best[1]

    def _nodes(self, instance: InstanceType, gpus: int) -> int | None:
        """The nodes for all replicas; None where more are taken than are given."""
        needed = nodes_of(instance, gpus, self.replicas)
        if self.count is None:
            return needed
        return self.count if needed <= self.count else None


def nodes_for(fit: Fit, replicas: int) -> int:
    """Return the nodes that hold the replicas."""
    return nodes_of(fit.instance, fit.gpus, replicas)


def nodes_of(instance: InstanceType, gpus: int, replicas: int) -> int:
    """Return the nodes that hold replicas of so many GPUs each."""
    if gpus > instance.gpu_count:
        return -(-gpus // instance.gpu_count) * replicas
    return -(-replicas // (instance.gpu_count // gpus))


_Rank = tuple[float, int, int, int, str]


def _rank(instance: InstanceType, nodes: int, priced: bool) -> _Rank:
    """By price where every candidate has one, else by GPUs, then memory (theirs, the host's), then name.

    More nodes never rank before fewer of the same instance type.
    """
    price = float(instance.price.per_hour) * nodes if priced and instance.price is not None else 0.0
    gpus = nodes * instance.gpu_count
    return (price, gpus, gpus * instance.gpu_memory, nodes * (instance.memory or 0), instance.name)


def next_smaller(demand: Demand, chosen: Fit, instances: Iterable[InstanceType]) -> Fit | None:
    """Return the last attempt on the largest smaller instance type that does not hold a replica, if any."""

    def total(instance: InstanceType) -> int:
        return instance.gpu_count * instance.gpu_memory

    smaller = [instance for instance in instances if total(instance) < total(chosen.instance)]
    for instance in sorted(smaller, key=lambda instance: (-total(instance), instance.name)):
        if fitting.smallest(demand, instance) is None:
            return fitting.best(demand, instance)
    return None
