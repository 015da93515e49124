"""Plans for people: a table for terminals, Markdown for pull requests, and what a change makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.quantities import gib
from generator import reports, rollouts, terminal

if TYPE_CHECKING:
    from berth.plans import Plan
    from generator.study import Study, Subject

_HEAD = ("Workspace", "Model", "Nodes", "Replicas", "Fullest GPU", "Slots", "Per hour")


def show(study: Study, before: Study | None = None, *, explain: bool = False) -> None:
    """Print the plans, or with `before` what differs; with `explain`, each one's memory and reasons too."""
    console = terminal.console()
    if before is None:
        rows = [_row(subject, subject.plan) for subject in study.subjects if subject.plan is not None]
        terminal.table(_HEAD, rows, whole=("Workspace", "Slots", "Per hour"))
        total = _total(study)
        total = f"\nTotal: {total}" if total else ""
    else:
        total = _print_changes(console, study, before)
    for subject in study.subjects:
        if subject.plan is not None and explain:
            _details(console, subject, subject.plan)
    if total:
        console.print(total, highlight=False, soft_wrap=True)


def _print_changes(console: Any, study: Study, before: Study) -> str:
    """Print each Workspace that differs, only the lines that do, and return the last words."""
    changes, said = _changes(study, before)
    for change in changes:
        was, now = change.before, change.after
        mark = "" if was and now else " (new)" if now else " (removed)"
        terminal.block(
            f"{change.title}{mark}",
            [
                (name, _change(old, new) if was else new)
                for name, old, new in zip(
                    _HEAD[1:], (was or now or [])[1:], now[1:] if now else [], strict=False
                )
                if was is None or old != new
            ],
        )
    for title, reason in said:
        console.print(f"{title}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if not changes:
        return _nothing(said)
    return f"\nTotal: {_change(_total(before), _total(study))}"


def _details(console: Any, subject: Subject, plan: Plan) -> None:
    console.print(f"\n[bold]{_title(subject)}[/bold]", highlight=False)
    for sentence in plan.explanation:
        console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    for warning in plan.warnings:
        console.print("  [yellow]warning:[/yellow]", end=" ")
        console.print(warning, markup=False, highlight=False, soft_wrap=True)


def markdown(study: Study, before: Study | None = None) -> str:
    """The plans as Markdown; with `before`, only what differs, each number as old → new."""
    lines = ["| " + " | ".join(_HEAD) + " |", "|" + " --- |" * len(_HEAD)]
    said: list[tuple[str, str]] = []
    total = _total(study)
    if before is None:
        rows = [_cells(subject) for subject in study.subjects if subject.document is not None]
    else:
        changes, said = _changes(study, before)
        rows = [_both(change) for change in changes]
        total = _change(_total(before), total)
    interruptions = [f"- `{title}`: {reason}" for title, reason in said]
    if before is not None and not rows:
        return "\n".join([*interruptions, *([""] if interruptions else []), _nothing(said)])
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    if total:
        lines += ["", f"Total: {total}"]
    lines += interruptions
    for subject in study.subjects:
        lines += [f"- `{_title(subject)}`: {located.problem.message}" for located in subject.problems]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Changed:
    """One Workspace whose cells differ; `before` is None of a new one, `after` of a removed one."""

    title: str
    before: list[str] | None
    after: list[str] | None


def _changes(study: Study, before: Study) -> tuple[list[_Changed], list[tuple[str, str]]]:
    """Return what differs, and of each Workspace whose rollout interrupts, its title and why."""
    old = {_key(subject): subject for subject in before.subjects}
    changes, interruptions = [], []
    for subject in study.subjects:
        if subject.document is None:
            continue
        previous = old.pop(_key(subject), None)
        if previous is not None and (reason := _interruption(previous, subject, before, study)):
            interruptions.append((_title(subject), reason))
        was, now = _cells(previous) if previous else None, _cells(subject)
        if was != now:
            changes.append(_Changed(_title(subject), was, now))
    for subject in old.values():
        if subject.document is not None:
            changes.append(_Changed(_title(subject), _cells(subject), None))
    return changes, interruptions


def _both(change: _Changed) -> list[str]:
    if change.after is None:
        return [f"{change.title} (removed)", *["–"] * (len(_HEAD) - 1)]
    was = change.before or [""] * len(change.after)
    return [_change(old, new) for old, new in zip(was, change.after, strict=True)]


def _nothing(interruptions: list[tuple[str, str]]) -> str:
    return "Nothing else changes." if interruptions else "No Workspace's plan changes."


def _interruption(old: Subject, new: Subject, before: Study, after: Study) -> str | None:
    if old.plan is None or new.plan is None:
        return None
    return rollouts.interruption(old.plan, new.plan, (before.fleet, after.fleet))


def changes_json(before: Study, after: Study) -> str:
    """The plans with what they were: `before` is null for a new Workspace, `after` for a removed one."""
    old = {_key(subject): subject for subject in before.subjects if subject.document is not None}
    new = {_key(subject): subject for subject in after.subjects if subject.document is not None}
    changes = [
        {
            "namespace": namespace,
            "name": name,
            "before": reports.planned(old[key]) if key in old else None,
            "after": reports.planned(new[key]) if key in new else None,
            "interruption": _interruption(old[key], new[key], before, after)
            if key in old and key in new
            else None,
        }
        for key in sorted({*old, *new}, key=str)
        for namespace, name in [key]
    ]
    workspaces = [reports.planned(subject) for subject in after.subjects]
    return json.dumps({"workspaces": workspaces, "changes": changes}, indent=2, ensure_ascii=False)


def _cells(subject: Subject) -> list[str]:
    if subject.plan is None:
        return [_title(subject), "refused", *[""] * (len(_HEAD) - 2)]
    return list(_row(subject, subject.plan))


def _row(subject: Subject, plan: Plan) -> tuple[str, ...]:
    nodes = f"{plan.nodes.count} × {plan.nodes.instance_type or 'any'}"
    model = f"{plan.server.model} {plan.server.quantization}" if plan.server else "own pod template"
    memory = ""
    if plan.memory is not None:
        fullest = max(plan.memory.gpus, key=lambda gpu: gpu.total)
        capacity = f" of {gib(fullest.capacity)}" if fullest.capacity else ""
        memory = f"{gib(fullest.total).removesuffix(' GiB') if capacity else gib(fullest.total)}{capacity}"
    gpus = "1 GPU" if plan.gpus_per_replica == 1 else f"{plan.gpus_per_replica} GPUs"
    replicas = f"{plan.replicas} × {gpus}" if plan.server else str(plan.replicas)
    context = f"{plan.server.parallel} × {plan.server.context_size}" if plan.server else ""
    cost = f"{plan.cost.per_hour:.2f} {plan.cost.currency}" if plan.cost else "unknown"
    return (_title(subject), model, nodes, replicas, memory, context, cost)


def _total(study: Study) -> str:
    plans = study.plans
    if not plans:
        return ""
    gpus = sum(plan.nodes.count * plan.nodes.gpus_per_node for plan in plans)
    nodes = sum(plan.nodes.count for plan in plans)
    text = f"{reports.counted(nodes, 'node', 'nodes')}, {reports.counted(gpus, 'GPU', 'GPUs')}"
    costs: dict[str, float] = {}
    for plan in plans:
        if plan.cost is not None:
            costs[plan.cost.currency] = costs.get(plan.cost.currency, 0.0) + plan.cost.per_hour
    for currency, amount in sorted(costs.items()):
        text += f", {amount:.2f} {currency} per hour"
    unknown = sum(plan.cost is None for plan in plans)
    return text + (f", {unknown} of unknown price" if unknown else "")


def _title(subject: Subject) -> str:
    return f"{subject.namespace}/{subject.name}" if subject.namespace else str(subject.name)


def _key(subject: Subject) -> tuple[str | None, str | None]:
    return (subject.namespace, subject.name)


def _change(was: str, now: str) -> str:
    if was == now:
        return now
    return f"{was} → {now}" if was else f"{now} (new)" if now else now
