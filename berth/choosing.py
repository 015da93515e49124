"""Which instance type a Workspace takes when its spec names none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth import fitting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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


def choices(
    demand: Demand, instances: Iterable[InstanceType], replicas: int, count: int | None, most_nodes: int
) -> list[Choice]:
    """Return every instance type that holds the replicas, the cheapest first."""
    found: list[Choice] = []
    for instance in instances:
        limit = most_nodes if count is None else min(most_nodes, count)
        tried = fitting.attempts(demand, instance, limit)
        if not tried or not tried[-1].fits:
            continue
        nodes = count or nodes_for(tried[-1], replicas)
        if count is None or nodes_for(tried[-1], replicas) <= count:
            found.append(Choice(tried[-1], nodes))
    return sorted(found, key=_order(found))


def nodes_for(fit: Fit, replicas: int) -> int:
    """Return the nodes that hold the replicas."""
    if fit.nodes > 1:
        return fit.nodes * replicas
    return -(-replicas // fit.replicas_per_node)


def _order(found: Sequence[Choice]) -> Callable[[Choice], tuple[float, int, int, int, str]]:
    """By price where every candidate has one, else by GPUs, then memory (theirs, the host's), then name."""
    priced = all(choice.price_per_hour is not None for choice in found)

    def key(choice: Choice) -> tuple[float, int, int, int, str]:
        instance = choice.fit.instance
        price = (choice.price_per_hour or 0.0) if priced else 0.0
        memory = choice.gpus * instance.gpu_memory
        return (price, choice.gpus, memory, choice.nodes * (instance.memory or 0), instance.name)

    return key


def next_smaller(demand: Demand, chosen: Choice, instances: Iterable[InstanceType]) -> tuple[Fit, ...]:
    """Return the last attempt on the largest smaller instance type that does not hold a replica, if any."""

    def total(instance: InstanceType) -> int:
        return instance.gpu_count * instance.gpu_memory

    smaller = [instance for instance in instances if total(instance) < total(chosen.fit.instance)]
    for instance in sorted(smaller, key=lambda instance: (-total(instance), instance.name)):
        tried = fitting.attempts(demand, instance)
        if tried and not tried[-1].fits:
            return (tried[-1],)
    return ()
