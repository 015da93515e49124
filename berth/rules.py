"""The one rule engine: the CLI's `check` and the webhook call it and show its words as they are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth import refusals, sizing
from berth.errors import NoFit, UnknownInstanceType
from berth.problems import Path, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from berth.catalog import Catalog
    from berth.fleet import Budget, Fleet
    from berth.plans import Plan
    from berth.sizing import Decision
    from berth.workspaces import Reading, Workspace

HOURS_PER_MONTH = 730
"""8,760 hours a year over twelve months, as clouds count."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every problem of one Workspace, and its plan where no error stands against it."""

    problems: tuple[Problem, ...]
    decision: Decision | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan, written out when it is first asked for."""
        return self.decision.plan if self.decision is not None else None

    @property
    def valid(self) -> bool:
        """Warnings alone do not make a Workspace invalid."""
        return not any(problem.severity == "error" for problem in self.problems)


def judge(reading: Reading, catalog: Catalog, fleet: Fleet) -> Verdict:
    """Return everything that is wrong with a Workspace, and its plan if it can run.

    A field that could not be read hides no problem of another field: only where the sizing itself would
    need that field is nothing said of the fit.
    """
    found = list(reading.problems)
    workspace = reading.workspace
    if workspace is None:
        return Verdict(tuple(found))
    if any(_matters_to_sizing(problem) for problem in found):
        found += [problem for problem in sizing.names(workspace, catalog) if not _told(problem, found)]
        return Verdict(_ordered(found))
    try:
        decision = sizing.decide(workspace, catalog, fleet)
    except NoFit as error:
        return Verdict(_ordered([*found, *error.problems]))
    found += shared_pool(workspace, fleet)
    verdict = Verdict(_ordered([*found, *decision.warnings]), decision)
    return verdict if verdict.valid else Verdict(verdict.problems)


def shared_pool(workspace: Workspace, fleet: Fleet) -> list[Problem]:
    """Return a warning where two namespaces would share one NodePool, whose name is the cluster's."""
    if fleet.provisioning != "nodepool" or workspace.namespace is not None:
        return []
    reason = "`namespace` is missing: its NodePool would also be that of a Workspace of this name elsewhere"
    fix = "write the namespace that it is synced to"
    return [Problem(("metadata", "namespace"), None, reason, fix, "warning", "no-namespace")]


def check(reading: Reading, catalog: Catalog, fleet: Fleet) -> list[Problem]:
    """Return every problem of one Workspace."""
    return list(judge(reading, catalog, fleet).problems)


def unknown_fallbacks(fleet: Fleet, catalog: Catalog) -> list[Problem]:
    """Return a problem, with its path in the fleet file, for each fallback that is not in the catalogue."""
    found: list[Problem] = []
    for index, name in enumerate(fleet.fallback_instance_types):
        try:
            catalog.instance_type(name)
        except UnknownInstanceType as error:
            path = ("fallbackInstanceTypes", index)
            found.append(refusals.unknown(path, name, error, "unknown-instance-type"))
    return found


def over_budget(plans: Iterable[Plan], fleet: Fleet) -> list[tuple[Plan, Problem]]:
    """Return, for each Workspace of a namespace whose budget the plans together exceed, that problem.

    An unknown price is refused where a budget is money: it can't be shown to be kept.
    """
    by_namespace: dict[str, list[Plan]] = defaultdict(list)
    for plan in plans:
        by_namespace[plan.namespace or "default"].append(plan)
    return [
        entry
        for namespace, members in by_namespace.items()
        if (budget := fleet.budgets.get(namespace)) is not None
        for entry in (*_over_gpus(namespace, members, budget), *_over_cost(namespace, members, budget))
    ]


def _over_gpus(namespace: str, members: list[Plan], budget: Budget) -> Iterator[tuple[Plan, Problem]]:
    total = sum(plan.nodes.count * plan.nodes.gpus_per_node for plan in members)
    if budget.gpus is not None and total > budget.gpus:
        reason = f"namespace {namespace} would take {total} GPUs, and its budget is {budget.gpus}"
        yield from ((plan, _budget(reason, plan.nodes.count)) for plan in members)


def _over_cost(namespace: str, members: list[Plan], budget: Budget) -> Iterator[tuple[Plan, Problem]]:
    if budget.cost_per_month is None:
        return
    most = _money(budget.cost_per_month)
    for plan in members:
        if plan.cost is None:
            name = plan.nodes.instance_type
            unknown = f"the price of {name} is unknown"
            reason = f"namespace {namespace} has a budget of {most} a month, and {unknown}"
            fix = "add it to prices in berth.yaml"
            yield plan, Problem(("resource", "instanceType"), name, reason, fix, rule="budget")
    month = sum(plan.cost.per_hour for plan in members if plan.cost) * HOURS_PER_MONTH
    if month > budget.cost_per_month:
        reason = f"namespace {namespace} would cost {_money(month)} a month, and its budget is {most}"
        yield from ((plan, _budget(reason, plan.nodes.count)) for plan in members)


def _money(amount: float) -> str:
    """Two decimals where they say something: a budget of 2000 that 2000.40 exceeds."""
    return f"{amount:.2f}".removesuffix(".00")


def _budget(reason: str, count: int) -> Problem:
    fix = "take fewer or cheaper nodes, or raise the budget in berth.yaml"
    return Problem(("resource", "count"), count, reason, fix, rule="budget")


_SIZING: tuple[Path, ...] = (
    ("resource", "count"),
    ("resource", "instanceType"),
    ("inference", "preset"),
    ("inference", "template"),
    ("inference", "llamacpp", "quantization"),
    ("inference", "llamacpp", "contextSize"),
    ("inference", "llamacpp", "parallel"),
    ("inference", "llamacpp", "cacheTypeK"),
    ("inference", "llamacpp", "cacheTypeV"),
    ("inference", "llamacpp", "replicas"),
)


def _matters_to_sizing(problem: Problem) -> bool:
    """A sizing field is broken or missing, or a misspelt field may have been meant for one."""
    if problem.severity != "error":
        return False
    path = problem.path
    if problem.rule == "unknown-field":
        return path[:1] in (("resource",), ("inference",)) and "template" not in path and "pod" not in path
    return any(path[: len(field)] == field or field[: len(path)] == path for field in _SIZING)


def _told(problem: Problem, found: list[Problem]) -> bool:
    return any(other.path == problem.path for other in found)


def _ordered(found: list[Problem]) -> tuple[Problem, ...]:
    """Errors before warnings; otherwise in the order of the document's own checks."""
    return tuple(sorted(found, key=lambda problem: problem.severity != "error"))
