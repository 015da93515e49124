"""Budgets at admission: this Workspace's plan together with those that the namespace already carries.

Best effort: two Workspaces that are created at the same moment may both pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import rules
from kube.objects import metadata
from webhook import verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from berth.fleet import Fleet
    from berth.plans import Plan
    from berth.problems import Problem


def over(plan: Plan, known: Iterable[Mapping[str, Any]], fleet: Fleet) -> list[Problem]:
    """Return the problems of a namespace's budget if `plan` joins, or replaces its own, among the known."""
    namespace = plan.namespace or "default"
    if namespace not in fleet.budgets:
        return []
    others = [other for other in _plans(known, namespace) if other.name != plan.name]
    return [problem for one, problem in rules.over_budget([*others, plan], fleet) if one is plan]


def _plans(known: Iterable[Mapping[str, Any]], namespace: str) -> Iterable[Plan]:
    for document in known:
        own = metadata(document)
        if own.get("namespace", "default") != namespace or own.get("deletionTimestamp"):
            continue
        plan = verdicts.plan_of(document)
        if plan is None:
            continue  # it runs nothing and takes nothing
        yield plan.model_copy(update={"namespace": namespace, "name": own.get("name", plan.name)})
