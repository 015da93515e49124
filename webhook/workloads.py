"""Workloads and pods that berth rendered: what somebody changed, against the plan that they carry.

Nothing is planned again and nothing is looked up, so a newer catalogue or a newer berth never stops what ran
before. The copy is compared as data, by its digest; the command line only flag by flag, since what a flag is
called may change between versions. It stops mistakes and drift, not somebody who edits copy and object alike.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from berth import argv, labels, plans
from berth.flags import OWNED_FLAGS
from berth.plans import Server
from berth.problems import Problem
from kube.objects import items, mapping, metadata, notes_of
from webhook.reviews import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from berth.problems import Path
    from webhook.reviews import Request

KINDS = ("Deployment", "StatefulSet", "LeaderWorkerSet", "Pod")

_AGAIN = "change the Workspace in git and run `berth render`"
_SERVER, _WORKER = "server", "worker"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_NOT_COMPARED = frozenset({"--model", "--rpc"})
"""The path is where the weights are mounted, and the workers' names are the cluster's."""


def judge(request: Request) -> Response:
    """Say whether an object of ours is still what was rendered."""
    now, old = request.object or {}, request.old
    if not (_ours(now) or (old is not None and _ours(old))):
        return Response(request, "ignored")
    if metadata(now).get("deletionTimestamp"):
        return Response(request, "deleting")
    if old is not None and _judged(now) == _judged(old):
        return Response(request, "unchanged")
    problems = tuple(_pod_problems(now) if request.kind == "Pod" else _workload_problems(now, old))
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
        yield from _spec_problems(mapping(pod.get("spec")), ("spec",), copy)


def _workload_problems(workload: Mapping[str, Any], old: Mapping[str, Any] | None) -> Iterable[Problem]:
    notes, place = notes_of(workload), ("metadata", "annotations")
    spec = mapping(workload.get("spec"))
    templates = _templates(spec)
    if labels.SERVER not in notes:
        inner = any(labels.SERVER in notes_of(template) for _, template in templates)
        if inner or (old is not None and labels.SERVER in notes_of(old)):
            yield Problem((*place, labels.SERVER), None, "the copy of the plan was removed", _AGAIN,
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
                yield Problem(here, own.get(key), reason, _AGAIN, rule="edited-copy")
        yield from _spec_problems(mapping(template.get("spec")), (*where, "spec"), copy)
    nodes = _json(notes.get(labels.NODES))
    if nodes is None and old is not None and labels.NODES in notes_of(old):
        reason = "the copy of the plan's nodes was removed, or cannot be read"
        yield Problem((*place, labels.NODES), None, reason, _AGAIN, rule="plan-removed")
    if nodes is not None:
        for where, template in templates:
            yield from _node_problems(mapping(template.get("spec")), (*where, "spec"), nodes)
        most, asked = nodes.get("replicas"), spec.get("replicas", 1)
        if isinstance(most, int) and isinstance(asked, int) and asked > most:
            reason = f"{asked} replicas are asked for, and the plan has nodes for {most}"
            fix = "set `inference.llamacpp.replicas` in the Workspace and run `berth render`"
            yield Problem(("spec", "replicas"), asked, reason, fix, rule="replicas")


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
        return None, [Problem(here, None, "the copy of the plan cannot be read", _AGAIN, rule="edited-copy")]
    if plans.digest(copy) != notes.get(labels.SERVER_DIGEST):
        reason = "the copy of the plan is not what its digest says"
        return None, [Problem(here, None, reason, _AGAIN, rule="edited-copy")]
    return copy, []


def _spec_problems(pod: Mapping[str, Any], place: Path, copy: Mapping[str, Any]) -> Iterable[Problem]:
    """Compare GPUs and the engine's command line."""
    named = {
        str(container.get("name")): (index, container)
        for index, container in enumerate(items(pod.get("containers")))
        if isinstance(container, dict)
    }
    if _SERVER not in named and _WORKER not in named:
        reason = "no container named `server` or `worker` is left"
        yield Problem((*place, "containers"), None, reason, _AGAIN, rule="no-server")
        return
    name = _SERVER if _SERVER in named else _WORKER
    index, container = named[name]
    here = (*place, "containers", index)
    yield from _gpu_problems(container, here, copy)
    yield from _other_gpus(pod, place, name)
    if name == _SERVER:
        yield from _flag_problems(container, here, copy)


def _gpu_problems(container: Mapping[str, Any], place: Path, copy: Mapping[str, Any]) -> Iterable[Problem]:
    gpus, nodes = copy.get("gpusPerReplica"), copy.get("nodesPerReplica")
    if not isinstance(gpus, int) or not isinstance(nodes, int) or nodes < 1:
        return
    wanted = gpus // nodes
    limits = mapping(mapping(container.get("resources")).get("limits"))
    given = limits.get(labels.GPU_RESOURCE, "0")
    if str(given) != str(wanted):
        reason = f"{given} GPUs are asked for, and the plan needs {wanted} in each pod"
        yield Problem((*place, "resources", "limits", labels.GPU_RESOURCE), given, reason, _AGAIN,
                      rule="gpus")  # fmt: skip


def _other_gpus(pod: Mapping[str, Any], place: Path, name: str) -> Iterable[Problem]:
    """Only the engine's container takes GPUs in a plan."""
    for group in ("initContainers", "containers"):
        for index, member in enumerate(items(pod.get(group))):
            limits = mapping(mapping(mapping(member).get("resources")).get("limits"))
            given = limits.get(labels.GPU_RESOURCE, "0")
            if str(given) != "0" and mapping(member).get("name") != name:
                path = (*place, group, index, "resources", "limits", labels.GPU_RESOURCE)
                reason = f"{given} GPUs are asked for beside the engine's, and the plan has none for them"
                yield Problem(path, given, reason, _AGAIN, rule="gpus")


def _flag_problems(container: Mapping[str, Any], place: Path, copy: Mapping[str, Any]) -> Iterable[Problem]:
    try:
        server = Server.model_validate(copy.get("server"))
    except ValueError:
        reason = "the plan was made by another version of berth, so the engine's flags are not compared"
        yield Problem(place, None, reason, "run `berth install` again", "warning", "other-version")
        return
    words = [str(word) for word in items(container.get("args"))]
    here = (*place, "args")
    if "llama-server" not in words:
        yield Problem(here, None, "the engine's command line is gone", _AGAIN, rule="flags")
        return
    start = words.index("llama-server") + 1
    wanted = _flags(argv.llama_server(server, "model")[1:])
    given = _flags(words[start:])
    for flag, value in wanted.items():
        if flag in _NOT_COMPARED or given.get(flag, _GONE) == value:
            continue
        told = "is missing" if flag not in given else f"is {' '.join(given[flag]) or 'given without a value'}"
        planned = f", and the plan has {' '.join(value)}" if value else ""
        shown = " ".join(given[flag]) if flag in given else None
        yield Problem(here, shown, f"{flag} {told}{planned}", _AGAIN, rule="flags")
    for flag in given:
        if flag in OWNED_FLAGS and flag not in wanted and flag not in _NOT_COMPARED:
            yield Problem(here, flag, f"{flag} is not in the plan", OWNED_FLAGS[flag], rule="flags")


_GONE = ("\0",)


def _flags(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The last value of each flag, as the engine takes it."""
    found: dict[str, tuple[str, ...]] = {}
    current: str | None = None
    for word in words:
        if word.startswith("-") and not word.lstrip("-.").isdigit():
            current, _, value = word.partition("=")
            found[current] = (value,) if value else ()
        elif current is not None:
            found[current] = (*found[current], word)
    return found


def _node_problems(pod: Mapping[str, Any], place: Path, nodes: Mapping[str, Any]) -> Iterable[Problem]:
    """Compare the instance types that the pods may run on, where the plan requires some."""
    wanted = nodes.get("instanceTypes")
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        return
    selected = mapping(pod.get("nodeSelector")).get(labels.INSTANCE_TYPE)
    if selected is not None and selected not in wanted:
        reason = f"the pods may run on {selected}, and the plan is valid for {', '.join(wanted)}"
        here = (*place, "nodeSelector", labels.INSTANCE_TYPE)
        yield Problem(here, selected, reason, _AGAIN, rule="instance-type")
    node = mapping(mapping(pod.get("affinity")).get("nodeAffinity"))
    path = (*place, "affinity", "nodeAffinity", _REQUIRED)
    terms = mapping(node.get(_REQUIRED)).get("nodeSelectorTerms")
    given = [_allowed(term) for term in items(terms)]
    for types in given or [None]:
        if types is None or not set(types) <= set(wanted):
            told = "any instance type" if types is None else ", ".join(types)
            reason = f"the pods may run on {told}, and the plan is valid for {', '.join(wanted)}"
            yield Problem(path, types, reason, _AGAIN, rule="instance-type")
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
    own = mapping(metadata(document).get("labels"))
    return labels.WORKSPACE in own and own.get(labels.MANAGED_BY) == "berth"


def _judged(document: Mapping[str, Any]) -> tuple[Any, ...]:
    notes = notes_of(document)
    carried = [notes.get(key) for key in (labels.SERVER, labels.SERVER_DIGEST, labels.NODES)]
    return document.get("spec"), carried, _ours(document)


def _json(text: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
        plans.canonical(value).encode()  # half a surrogate pair can be read, and never be told
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
