"""The decision on one review: the same rules and the same planner as `berth check`, word for word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from berth import labels
from kube.objects import metadata, notes_of, spec
from webhook import budgets, mutation, scaling, verdicts, workloads
from webhook.reviews import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from webhook.reviews import Request


@dataclass(frozen=True, slots=True)
class Context:
    """What decisions are made from; `workspaces` gives the Workspaces that the cluster is known to hold."""

    catalog: Catalog
    fleet: Fleet
    workspaces: Callable[[], Iterable[Mapping[str, Any]]]
    memory: verdicts.Memory = field(default_factory=verdicts.Memory, repr=False)


def validate(request: Request, context: Context) -> Response:
    """Say whether the object may be stored, with every problem at once."""
    if request.operation == "UPDATE" and (request.subresource, request.kind) == ("scale", scaling.KIND):
        return scaling.judge(request, context.workspaces())
    if not request.stores:
        return Response(request, "ignored")
    if request.of_workspace:
        return _workspace(request, context)
    if request.kind in workloads.KINDS:
        return workloads.judge(request)
    return Response(request, "ignored")


def plans(request: Request, context: Context) -> bool:
    """Return whether the answer takes the planner, and so may take a while."""
    if not (request.stores and request.of_workspace and _touched(request)):
        return False
    return not context.memory.planned(request.object or {}, context.fleet)


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
    judged = context.memory.judge(document, context.catalog, context.fleet)
    problems = list(judged.problems)
    # A Workspace that does not fit has no plan, so it can't be counted, and needs no second reason.
    if judged.plan is not None and context.fleet.budgets:
        namespace = request.namespace or judged.plan.namespace
        own = judged.plan.model_copy(update={"namespace": namespace})
        problems += budgets.over(own, context.workspaces(), context.fleet)
    problems.sort(key=lambda problem: problem.severity != "error")
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:  # that it would not run unrendered is of no use to whom it is refused
        problems = [problem for problem in problems if problem.rule != "not-rendered"]
    return Response(
        request,
        verdict="denied" if errors else "fits" if judged.carried else "unrendered",
        rule=errors[0].rule if errors else "",
        problems=tuple(problems),
        audit=judged.audit,
    )


def _touched(request: Request) -> bool:
    return request.operation != "UPDATE" or _relevant(request.object or {}) != _relevant(request.old or {})


def _relevant(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """What an update has to touch before it is judged."""
    notes = notes_of(document)
    return spec(document), {key: notes[key] for key in _JUDGED if key in notes}


_JUDGED = (labels.PLAN, labels.ENABLE_LOAD_BALANCER)
