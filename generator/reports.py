"""How problems and plans are written: text for people, JSON for programs, GitHub's annotations for CI."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from generator.study import Located, Study, Subject


def problems_json(study: Study) -> str:
    """The document of `berth check --format json`."""
    return _dump({"workspaces": [_checked(subject) for subject in study.subjects]})


def plans_json(study: Study) -> str:
    """The document of `berth plan --format json`."""
    return _dump({"workspaces": [planned(subject) for subject in study.subjects]})


def problems_text(study: Study, *, errors_only: bool = False) -> Iterator[str]:
    """One line a problem, `file:line:column: severity: field: reason`, its fix on the next."""
    for subject in study.subjects:
        for located in subject.problems:
            problem = located.problem
            if errors_only and problem.severity != "error":
                continue
            field = f"{problem.field}: " if problem.path else ""
            place = f"{subject.file}:{located.line}:{located.column}"
            value = _shown(problem.value, problem.reason) if problem.severity == "error" else ""
            yield f"{place}: {problem.severity}: {field}{problem.reason}{value}"
            if problem.fix:
                yield f"    fix: {problem.fix}"


def problems_github(study: Study, *, errors_only: bool = False) -> Iterator[str]:
    """Workflow commands that GitHub shows at the lines of a pull request."""
    for subject in study.subjects:
        for located in subject.problems:
            problem = located.problem
            if errors_only and problem.severity != "error":
                continue
            place = f"file={_property(subject.file)},line={located.line},col={located.column}"
            title = _property(problem.field or "file")
            yield f"::{problem.severity} {place},title={title}::{_data(problem.message)}"


def summary(study: Study) -> str:
    """The last line for people: how many Workspaces, and how many of them or of the files have problems."""
    named = [subject for subject in study.subjects if subject.document is not None]
    others = [subject for subject in study.subjects if subject.document is None]
    bad = sum(not subject.valid for subject in named)
    bad_files = len({subject.file for subject in others if not subject.valid})
    if not named:
        unread = f"; {counted(bad_files, 'file', 'files')} with problems" if bad_files else ""
        return f"no Workspace was found{unread}"
    warned = sum(
        located.problem.severity == "warning" for subject in study.subjects for located in subject.problems
    )
    files = len({subject.file for subject in study.subjects})
    wrong = [f"{bad} with problems"] if bad else []
    if bad_files:
        wrong.append(f"{counted(bad_files, 'file', 'files')} with problems")
    warnings = f", {counted(warned, 'warning', 'warnings')}" if warned else ""
    numbers = f"{counted(len(named), 'Workspace', 'Workspaces')} in {counted(files, 'file', 'files')}"
    return f"{numbers}: {', '.join(wrong) or 'all fine'}{warnings}"


def _checked(subject: Subject) -> dict[str, Any]:
    return {
        "file": subject.file,
        "namespace": subject.namespace,
        "name": subject.name,
        "valid": subject.valid,
        "problems": [_problem(located) for located in subject.problems],
    }


def planned(subject: Subject) -> dict[str, Any]:
    """One Workspace of `berth plan --format json`; one that can't be planned has `problems` alone."""
    head = {"file": subject.file, "namespace": subject.namespace, "name": subject.name}
    plan = subject.plan
    if plan is None:
        return {**head, "valid": False, "problems": [_problem(located) for located in subject.problems]}
    return {
        **head,
        "valid": True,
        "instanceType": plan.nodes.instance_type,
        "fallbackInstanceTypes": list(plan.nodes.fallback_instance_types),
        "nodes": plan.nodes.count,
        "replicas": plan.replicas,
        "gpusPerReplica": plan.gpus_per_replica,
        "nodesPerReplica": plan.nodes_per_replica,
        "memory": plan.memory.to_json() if plan.memory else None,
        "server": plan.server.to_json() if plan.server else None,
        "cost": plan.cost.to_json() if plan.cost else None,
        "warnings": list(plan.warnings),
        "explanation": list(plan.explanation),
    }


def _problem(located: Located) -> dict[str, Any]:
    problem = located.problem
    return {
        "path": problem.field,
        "value": problem.value,
        "reason": problem.reason,
        "fix": problem.fix,
        "severity": problem.severity,
        "rule": problem.rule,
        "line": located.line,
        "column": located.column,
    }


def _dump(data: object) -> str:
    return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(data: Any) -> Any:
    """JSON has no NaN and no dates; a value of the user's document is shown as its text then."""
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if (isinstance(data, float) and data != data) or data in (float("inf"), float("-inf")):
        return str(data)
    if data is None or isinstance(data, str | int | float | bool):
        return data
    return str(data)


def _shown(value: object, reason: str) -> str:
    """The offending value, where the reason does not name it already."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value)
    if len(text) > 80:
        text = text[:77] + "…"
    return "" if text in reason else f" (value: {text!r})"


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
