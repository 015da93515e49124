"""Workloads and pods that berth rendered: what somebody changed, against the plan that they carry.

Nothing is planned again and nothing is looked up, so a newer catalogue or a newer berth never stops what ran
before. The copy is compared as data, by its digest; the command line only flag by flag, since what a flag is
called may change between versions. It stops mistakes and drift, not somebody who edits copy and object alike.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from berth import labels, plans
from berth.problems import Problem
from kube.objects import items, labels_of, mapping, metadata, notes_of
from webhook import containers
from webhook.containers import AGAIN
from webhook.reviews import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from berth.problems import Path
    from webhook.reviews import Request

KINDS = ("Deployment", "StatefulSet", "LeaderWorkerSet", "Pod")

_CARRIED = (labels.SERVER, labels.SERVER_DIGEST, labels.NODES, labels.CONTAINER)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def judge(request: Request) -> Response:
    """Say whether an object of ours is still what was rendered."""
    now, old = request.object or {}, request.old
    if not (_ours(now) or (old is not None and _ours(old))):
        return Response(request, "ignored")
    if metadata(now).get("deletionTimestamp"):
        return Response(request, "deleting")
    if old is not None and _judged(now) == _judged(old):
        return Response(request, "unchanged")
    if request.kind == "Pod":
        problems = tuple(_pod_problems(now))
    else:
        problems = (*_label_problems(now, old), *_workload_problems(now, old))
    errors = [problem for problem in problems if problem.severity == "error"]
    first = errors[0] if errors else (problems[0] if problems else None)
    verdict = "denied" if errors else "rendered" if first is None else first.rule
    return Response(request, verdict, first.rule if first is not None else "", problems)


def _pod_problems(pod: Mapping[str, Any]) -> Iterable[Problem]:
    notes = notes_of(pod)
    if labels.SERVER not in notes:
        return  # of a template, or rendered before pods carried the copy: nothing to compare with
    copy, found = _copy(notes, ("metadata", "annotations"))
    yield from found
    if copy is not None:
        yield from containers.problems(mapping(pod.get("spec")), ("spec",), copy)


def _label_problems(workload: Mapping[str, Any], old: Mapping[str, Any] | None) -> Iterable[Problem]:
    """Without our label the next change would pass unseen; a pod may lose it, to be taken out of service."""
    if old is None or _ours(workload) or not _ours(old):
        return
    reason = "the label that says that berth rendered it was removed, so nobody would compare it any more"
    fix = f"keep {labels.WORKSPACE} and {labels.MANAGED_BY}: berth, or delete the object"
    yield Problem(("metadata", "labels"), None, reason, fix, rule="label-removed")


def _workload_problems(workload: Mapping[str, Any], old: Mapping[str, Any] | None) -> Iterable[Problem]:
    notes, place = notes_of(workload), ("metadata", "annotations")
    spec = mapping(workload.get("spec"))
    templates = _templates(spec)
    if labels.SERVER not in notes:
        inner = any(labels.SERVER in notes_of(template) for _, template in templates)
        if inner or (old is not None and labels.SERVER in notes_of(old)):
            yield Problem((*place, labels.SERVER), None, "the copy of the plan was removed", AGAIN,
                          rule="plan-removed")  # fmt: skip
        elif labels.SPEC_DIGEST not in notes:
            reason = "it says that berth manages it, and carries no plan of berth, so its size is not checked"
            yield Problem(place, None, reason, "remove the label, or render it from a Workspace", "warning",
                          "claims-to-be-ours")  # fmt: skip
        return
    copy, found = _copy(notes, place)
    yield from found
    if copy is None:
        return
    for where, template in templates:
        own = notes_of(template)
        for key in (labels.SERVER, labels.SERVER_DIGEST):
            if own.get(key) != notes[key] and (key in own or key == labels.SERVER_DIGEST):
                reason = "the pods' copy of the plan is not the workload's"
                here = (*where, "metadata", "annotations", key)
                yield Problem(here, own.get(key), reason, AGAIN, rule="edited-copy")
        rendered = _json(notes.get(labels.CONTAINER))
        yield from containers.problems(mapping(template.get("spec")), (*where, "spec"), copy, rendered)
    nodes = _json(notes.get(labels.NODES))
    for key, what in (
        (labels.NODES, "the copy of the plan's nodes"),
        (labels.CONTAINER, "what was rendered"),
    ):
        if _json(notes.get(key)) is None and old is not None and key in notes_of(old):
            reason = f"{what} was removed, or cannot be read"
            yield Problem((*place, key), None, reason, AGAIN, rule="plan-removed")
    if nodes is not None:
        for where, template in templates:
            yield from _node_problems(mapping(template.get("spec")), (*where, "spec"), nodes)
        before = None if old is None else mapping(old.get("spec")).get("replicas", 1)
        yield from replica_problems(spec.get("replicas", 1), before, nodes.get("replicas"))


def replica_problems(asked: Any, before: Any, most: Any) -> Iterable[Problem]:
    """More replicas than the plan has nodes for are refused; so many as there were already are only told.

    Otherwise nobody could mend anything of a workload that was scaled while we were not asked.
    """
    if not (isinstance(most, int) and isinstance(asked, int) and asked > most):
        return
    raised = not isinstance(before, int) or asked > before
    reason = f"{asked} replicas are asked for, and the plan has nodes for {most}"
    fix = "set `inference.llamacpp.replicas` in the Workspace and run `berth render`"
    yield Problem(("spec", "replicas"), asked, reason, fix, "error" if raised else "warning", rule="replicas")


def _templates(spec: Mapping[str, Any]) -> list[tuple[Path, Mapping[str, Any]]]:
    """The pod templates of a workload with their places: one, or a leader's and its workers'."""
    group = spec.get("leaderWorkerTemplate")
    if group is None:
        return [(("spec", "template"), mapping(spec.get("template")))]
    place = ("spec", "leaderWorkerTemplate")
    return [
        ((*place, name), mapping(mapping(group).get(name))) for name in ("leaderTemplate", "workerTemplate")
    ]


def _copy(notes: Mapping[str, Any], place: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    """Return the copy of the plan if it is what its digest says."""
    here = (*place, labels.SERVER)
    copy = _json(notes.get(labels.SERVER))
    if copy is None:
        return None, [Problem(here, None, "the copy of the plan cannot be read", AGAIN, rule="edited-copy")]
    if plans.digest(copy) != notes.get(labels.SERVER_DIGEST):
        reason = "the copy of the plan is not what its digest says"
        return None, [Problem(here, None, reason, AGAIN, rule="edited-copy")]
    return copy, []


def _node_problems(pod: Mapping[str, Any], place: Path, nodes: Mapping[str, Any]) -> Iterable[Problem]:
    """Compare the instance types that the pods may run on, where the plan requires some."""
    wanted = nodes.get("instanceTypes")
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        return
    selected = mapping(pod.get("nodeSelector")).get(labels.INSTANCE_TYPE)
    if selected is not None and selected not in wanted:
        reason = f"the pods may run on {selected}, and the plan is valid for {', '.join(wanted)}"
        here = (*place, "nodeSelector", labels.INSTANCE_TYPE)
        yield Problem(here, selected, reason, AGAIN, rule="instance-type")
    node = mapping(mapping(pod.get("affinity")).get("nodeAffinity"))
    path = (*place, "affinity", "nodeAffinity", _REQUIRED)
    terms = mapping(node.get(_REQUIRED)).get("nodeSelectorTerms")
    given = [_allowed(term) for term in items(terms)]
    for types in given or [None]:
        if types is None or not set(types) <= set(wanted):
            told = "any instance type" if types is None else ", ".join(types)
            reason = f"the pods may run on {told}, and the plan is valid for {', '.join(wanted)}"
            yield Problem(path, types, reason, AGAIN, rule="instance-type")
            return


def _allowed(term: Any) -> list[str] | None:
    """The instance types of one selector term; None where it names none."""
    for one in items(mapping(term).get("matchExpressions")):
        requirement = mapping(one)
        if requirement.get("key") == labels.INSTANCE_TYPE and requirement.get("operator") == "In":
            values = requirement.get("values")
            return [str(value) for value in values] if isinstance(values, list) else None
    return None


def _ours(document: Mapping[str, Any]) -> bool:
    own = labels_of(document)
    return labels.WORKSPACE in own and own.get(labels.MANAGED_BY) == "berth"


def _judged(document: Mapping[str, Any]) -> tuple[Any, ...]:
    notes = notes_of(document)
    carried = [notes.get(key) for key in _CARRIED]
    return document.get("spec"), carried, _ours(document)


def _json(text: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
        plans.canonical(value).encode()  # half a surrogate pair can be read, and never be told
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
