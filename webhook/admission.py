"""The decision on one review: the same rules and the same planner as `berth check`, word for word."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from berth import labels, rules, workspaces
from berth.plans import Plan
from berth.problems import Problem
from kube.objects import metadata, notes_of, spec
from webhook import budgets, mutation, scaling, workloads
from webhook.reviews import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from berth.rules import Verdict
    from berth.workspaces import Workspace
    from webhook.reviews import Request

_PLAN = ("metadata", "annotations", labels.PLAN)
_AGAIN = "run `berth render` and commit what it writes"


@dataclass(frozen=True, slots=True)
class Context:
    """What decisions are made from; `workspaces` gives the Workspaces that the cluster is known to hold."""

    catalog: Catalog
    fleet: Fleet
    workspaces: Callable[[], Iterable[Mapping[str, Any]]]


def validate(request: Request, context: Context) -> Response:
    """Say whether the object may be stored, with every problem at once."""
    if request.operation == "UPDATE" and (request.subresource, request.kind) == ("scale", scaling.KIND):
        return scaling.judge(request, context.workspaces())
    if request.operation not in ("CREATE", "UPDATE") or request.subresource:
        return Response(request, "ignored")
    if request.kind == labels.KIND and request.group == labels.GROUP:
        return _workspace(request, context)
    if request.kind in workloads.KINDS:
        return workloads.judge(request)
    return Response(request, "ignored")


def plans(request: Request) -> bool:
    """Return whether the answer takes the planner, and so may take a while."""
    if request.operation not in ("CREATE", "UPDATE") or request.subresource:
        return False
    return request.kind == labels.KIND and request.group == labels.GROUP and _touched(request)


def planned_from(request: Request, context: Context) -> bytes:
    """Return a name for all that a plan depends on, so that the same may be known to be the same."""
    content = orjson.dumps([context.fleet.digest, spec(request.object or {})])
    return hashlib.blake2b(content, digest_size=16).digest()


def mutate(request: Request, context: Context) -> Response:
    """Fill absent fields of what is ours."""
    patch = mutation.patch(request)
    return Response(request, "filled" if patch else "unchanged", patch=tuple(patch))


def _workspace(request: Request, context: Context) -> Response:
    document = request.object or {}
    if metadata(document).get("deletionTimestamp"):
        return Response(request, "deleting")
    if not _touched(request):
        # What today's rules would refuse must still lose its finalizers and get its labels.
        return Response(request, "unchanged")
    reading = workspaces.read(document)
    verdict = rules.judge(reading, context.catalog, context.fleet)
    problems = list(verdict.problems)
    workspace = reading.workspace
    carried: Plan | None = None
    if workspace is not None:
        carried, found = _carried(workspace, verdict, context.fleet)
        problems += found
        # A Workspace that does not fit has no plan, so it can't be counted, and needs no second reason.
        if verdict.decision is not None:
            namespace = request.namespace or workspace.namespace
            own = (carried or verdict.decision.unexplained).model_copy(update={"namespace": namespace})
            problems += budgets.over(own, context.workspaces(), context.fleet)
    problems.sort(key=lambda problem: problem.severity != "error")
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:  # that it would not run unrendered is of no use to whom it is refused
        problems = [problem for problem in problems if problem.rule != "not-rendered"]
    return Response(
        request,
        verdict="denied" if errors else "fits" if carried is not None else "unrendered",
        rule=errors[0].rule if errors else "",
        problems=tuple(problems),
        audit=_audit(verdict),
    )


def _carried(workspace: Workspace, verdict: Verdict, fleet: Fleet) -> tuple[Plan | None, list[Problem]]:
    """Return the plan that the Workspace carries, and what is wrong with it."""
    text = workspace.annotations.get(labels.PLAN)
    if text is None:
        reason, fix = "no plan is rendered, so nothing runs", "run `berth render` and commit"
        return None, [Problem(_PLAN, None, reason, fix, "warning", "not-rendered")]
    try:
        plan = Plan.model_validate_json(text)
    except ValueError:
        return None, [Problem(_PLAN, None, "it holds no plan that can be read", _AGAIN, rule="bad-plan")]
    if plan.spec_digest != workspace.spec_digest:
        reason = "the plan was rendered from another spec than this one"
        return plan, [Problem(_PLAN, plan.spec_digest, reason, _AGAIN, rule="stale-plan")]
    if verdict.decision is None:
        return plan, []
    ours = verdict.decision.unexplained
    same_fleet = plan.fleet_digest == ours.fleet_digest
    if plan.catalog_digest == ours.catalog_digest and same_fleet and plan.version == ours.version:
        aside = {"namespace": None, "explanation": (), "warnings": ()}
        if plan.model_copy(update=aside) != ours.model_copy(update=aside):
            reason = "the plan is not the one that berth makes from this spec"
            return plan, [Problem(_PLAN, plan.spec_digest, reason, _AGAIN, rule="edited-plan")]
    if not same_fleet:
        reason = "the plan was rendered with another berth.yaml than the cluster's"
        fix = "run `berth install` and `berth render` from the same commit"
        return plan, [Problem(_PLAN, plan.fleet_digest, reason, fix, "warning", "other-fleet")]
    return plan, []


def _touched(request: Request) -> bool:
    return request.operation != "UPDATE" or _relevant(request.object or {}) != _relevant(request.old or {})


def _relevant(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an update has to touch before it is judged."""
    notes = notes_of(document)
    return spec(document), {key: notes[key] for key in _JUDGED if key in notes}


_JUDGED = (labels.PLAN, labels.ENABLE_LOAD_BALANCER)


def _audit(verdict: Verdict) -> dict[str, str]:
    """Needed and available bytes of the fullest GPU, whether they are enough or not."""
    if verdict.decision is not None:
        memory = verdict.decision.unexplained.memory
        if memory is None or not memory.gpus:
            return {}
        fullest = max(memory.gpus, key=lambda gpu: gpu.total)
        return _bytes(fullest.total, fullest.capacity)
    for problem in verdict.problems:
        if problem.needed_bytes is not None:
            return _bytes(problem.needed_bytes, problem.available_bytes)
    return {}


def _bytes(needed: int, available: int | None) -> dict[str, str]:
    found = {"needed-bytes": str(needed)}
    return found if available is None else {**found, "available-bytes": str(available)}
