"""What an import tells: for every object where it went, what runs now, what differs, what is left to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from generator.reports import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.plans import Plan
    from berth.problems import Problem
    from generator.importing.bringing import Brought, Import


def as_json(found: Import, written: list[str]) -> str:
    """One JSON document; `written` names the files that are new."""
    document = {
        "fleetFile": found.fleet_file,
        "complete": found.complete,
        "objects": [_object(one) for one in found.brought],
        "written": written,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def lines(found: Import, written: list[str] | None = None) -> Iterator[str]:
    """Two lines and more for each object; what is not among the `written` was there already."""
    for one in found.brought:
        name = f" {one.name}" if one.name else ""
        space = f" in namespace {one.namespace}" if one.namespace else ""
        head = f"{one.source}: {one.kind}{name}{space}"
        if one.file is None:
            yield f"{head}: stays where it is"
        else:
            there = written is not None and one.file not in written
            how = "there already" if there else "copied as it is" if one.copied else "rewritten"
            yield f"{head} -> {one.file}, {how}"
        if one.plan is not None:
            yield f"    runs: {runs(one.plan)}"
        for problem in one.problems:
            yield f"    {_word(one, problem)}: {_told(problem)}"


def summary(found: Import) -> str:
    """The last line for people."""
    count = {outcome: sum(one.outcome == outcome for one in found.brought) for outcome in _OUTCOMES}
    parts = [f"{counted(count['brought'], 'Workspace', 'Workspaces')} brought over"]
    if count["to-mend"]:
        parts.append(f"{count['to-mend']} to mend by hand")
    if count["left"]:
        parts.append(f"{counted(count['left'], 'object stays', 'objects stay')} where it was")
    return ", ".join(parts)


_OUTCOMES = ("brought", "to-mend", "left")


def runs(plan: Plan) -> str:
    """What a plan makes of a Workspace, in one line."""
    nodes = f"{plan.nodes.count} × {plan.nodes.instance_type}"
    if plan.server is None:
        return f"its own pod template on {nodes}"
    server = plan.server
    replicas = f", {plan.replicas} replicas" if plan.replicas > 1 else ""
    cost = f", {plan.cost.per_hour:.2f} {plan.cost.currency} per hour" if plan.cost is not None else ""
    slots = f"{server.parallel} slots of {server.context_size} tokens"
    return f"{server.model} {server.quantization} by llama.cpp on {nodes}{replicas}, {slots}{cost}"


def _object(one: Brought) -> dict[str, Any]:
    return {
        "source": one.source,
        "kind": one.kind,
        "namespace": one.namespace,
        "name": one.name,
        "outcome": one.outcome,
        "file": one.file,
        "copied": one.copied,
        "runs": runs(one.plan) if one.plan is not None else None,
        "differences": [
            {
                "path": problem.field,
                "reason": problem.reason,
                "fix": problem.fix,
                "severity": problem.severity,
            }
            for problem in one.problems
        ],
    }


def _word(one: Brought, problem: Problem) -> str:
    if one.file is None:
        return "because"
    return "to mend" if problem.severity == "error" else "differs"


def _told(problem: Problem) -> str:
    field = f"{problem.field}: " if problem.path else ""
    return f"{field}{problem.message}"
