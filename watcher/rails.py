"""What holds the watcher back: budgets and limits, counted again before every node that is made.

The claims of all Workspaces are counted, the terminating ones too, so a budget holds even where two of them
passed admission at the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth.rules import HOURS_PER_MONTH
from watcher import observed
from watcher.reasons import Reason
from watcher.scene import Blocked
from watcher.world import Amount, Limits, Price, Rails, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from berth import fleet as fleets
    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from watcher.scene import Scene
    from watcher.world import Object

_UNKNOWN = Price(0)
_PRICE = "add it to `prices` in berth.yaml"


def of(fleet: Fleet, catalog: Catalog, *, dry_run: bool = False) -> Rails:
    """Return the rails of a fleet file."""
    prices = {
        one.name: Price(one.gpu_count, one.price.per_hour if one.price else None)
        for one in catalog.instance_types.values()
    }
    namespaces = {name: _limits(limit) for name, limit in fleet.limits.namespaces.items()}
    return Rails(_limits(fleet.limits.cluster), namespaces, prices, dry_run)


def amount(claim: Object, rails: Rails) -> Amount:
    """Return what one claim takes, for the shell's running totals; its creates are counted by their times."""
    price = rails.prices.get(observed.instance_type(claim), _UNKNOWN)
    return Amount(1, price.gpus, price.per_hour or 0.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """How many of the wanted nodes may be made now, and what stands against the others."""

    allowed: int
    blocked: Blocked | None = None


def allow(scene: Scene, wanted: Sequence[str], rails: Rails, *, have: int) -> Answer:
    """Say how many nodes, of these instance types in this order, may be made.

    A replica on several nodes gets all of them or none, since a part of it is of no use: `have` is how many
    nodes there are already. Only the limit of creates per hour may cut a replica, for it opens again.
    """
    usage = scene.snapshot.usage
    blocked: Blocked | None = None
    allowed = 0
    for kind in wanted:
        one = _amount(scene, kind, rails)
        usage = Usage(usage.cluster + one, usage.namespace + one)
        blocked = _refusal(scene, usage, kind, rails)
        if blocked is not None:
            break
        allowed += 1
    if blocked is None or blocked.reason == Reason.CREATES_LIMITED:
        return Answer(allowed, blocked)
    for kind in wanted[allowed + 1 :]:
        one = _amount(scene, kind, rails)
        usage = Usage(usage.cluster + one, usage.namespace + one)
    plan = scene.reading.plan
    group = plan.nodes_per_replica if plan is not None else 1
    whole = (have + allowed) // group * group - have
    return Answer(max(0, min(allowed, whole)), _refusal(scene, usage, wanted[-1], rails) or blocked)


def _amount(scene: Scene, kind: str, rails: Rails) -> Amount:
    plan, price = scene.reading.plan, rails.prices.get(kind)
    if price is None:
        return Amount(1, plan.nodes.gpus_per_node if plan is not None else 0, 0.0, 1)
    return Amount(1, price.gpus, price.per_hour or 0.0, 1)


def _refusal(scene: Scene, then: Usage, kind: str, rails: Rails) -> Blocked | None:
    """Say what `then`, the usage with one node more, would exceed."""
    return (
        _over_budget(scene, then.namespace, kind, rails)
        or _over_limit("the cluster", then.cluster, rails.cluster, kind, rails.prices)
        or _over_limit(
            scene.namespace,
            then.namespace,
            rails.namespaces.get(scene.namespace, Limits()),
            kind,
            rails.prices,
        )
    )


def _over_budget(scene: Scene, then: Amount, kind: str, rails: Rails) -> Blocked | None:
    budget = scene.fleet.budgets.get(scene.namespace)
    if budget is None:
        return None
    who = scene.namespace
    if budget.gpus is not None and then.gpus > budget.gpus:
        message = f"{who} may use {budget.gpus} GPUs, and this Workspace would make it {then.gpus}"
        return Blocked(Reason.OVER_BUDGET, message)
    if budget.cost_per_month is None:
        return None
    if rails.prices.get(kind, _UNKNOWN).per_hour is None:
        message = f"{who} has a budget of money, and the price of {kind} is unknown: {_PRICE}"
        return Blocked(Reason.OVER_BUDGET, message)
    month = then.cost_per_hour * HOURS_PER_MONTH
    if month > budget.cost_per_month:
        message = (
            f"{who} may cost {budget.cost_per_month:g} a month, and this Workspace would make it {month:.0f}"
        )
        return Blocked(Reason.OVER_BUDGET, message)
    return None


def _over_limit(
    who: str, then: Amount, limits: Limits, kind: str, prices: Mapping[str, Price]
) -> Blocked | None:
    if limits.nodes is not None and then.nodes > limits.nodes:
        message = f"{who} may have {limits.nodes} nodes, and this Workspace would make it {then.nodes}"
        return Blocked(Reason.OVER_LIMIT, message)
    if limits.cost_per_hour is not None:
        if prices.get(kind, _UNKNOWN).per_hour is None:
            message = f"{who} has a limit of cost, and the price of {kind} is unknown: {_PRICE}"
            return Blocked(Reason.OVER_LIMIT, message)
        if then.cost_per_hour > limits.cost_per_hour:
            message = (
                f"{who} may cost {limits.cost_per_hour:g} an hour, "
                f"and this Workspace would make it {then.cost_per_hour:.2f}"
            )
            return Blocked(Reason.OVER_LIMIT, message)
    if limits.creates_per_hour is not None and then.creates > limits.creates_per_hour:
        message = f"{who} may ask for {limits.creates_per_hour} nodes an hour, and has done so"
        return Blocked(Reason.CREATES_LIMITED, message)
    return None


def _limits(limit: fleets.Limit) -> Limits:
    return Limits(limit.nodes, limit.cost_per_hour, limit.creates_per_hour)
