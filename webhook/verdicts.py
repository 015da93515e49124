"""What a Workspace and the fleet file alone decide, remembered: the rules, the planner, the plan it carries.

Tools that compare git with a cluster apply the same object again and again, as dry runs. Nothing is
remembered of the request, of other objects, or of budgets.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from berth import labels, rules, workspaces
from berth.plans import Plan
from berth.problems import Problem
from kube.objects import metadata, notes_of, spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from berth.rules import Verdict
    from berth.workspaces import Workspace

REMEMBERED = 1024
"""Workspaces; each takes some ten KiB."""
_SERVERS_OWN = frozenset({"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"})
"""Metadata that the API server writes, anew for each request."""
_PLAN = ("metadata", "annotations", labels.PLAN)
_AGAIN = "run `berth render` and commit what it writes"


@dataclass(frozen=True, slots=True)
class Judged:
    """The problems in order, and what else is made of them."""

    problems: tuple[Problem, ...]
    plan: Plan | None
    """What counts in a budget: the plan that it carries, else the one that it would get."""
    carried: bool
    """Whether it carries a plan."""
    audit: Mapping[str, str]


class Memory:
    """Verdicts by all that they depend on, and the specs that were planned; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._verdicts: dict[bytes, Judged] = {}
        self._planned: dict[bytes, None] = {}

    def judge(self, document: Mapping[str, Any], catalog: Catalog, fleet: Fleet) -> Judged:
        """Return the verdict on a Workspace, an earlier one where nothing changed since."""
        own = metadata(document)
        said = {key: own[key] for key in own if key not in _SERVERS_OWN} if own else document.get("metadata")
        name = _name(fleet, document.get("apiVersion"), said, spec(document))
        found = self._verdicts.get(name)
        if found is None:
            found = _judge(document, catalog, fleet)
            _put(self._verdicts, name, found)
            _put(self._planned, _name(fleet, spec(document)), None)
        return found

    def planned(self, document: Mapping[str, Any], fleet: Fleet) -> bool:
        """Return whether its spec was planned before, so that the planner's own memory answers soon."""
        return _name(fleet, spec(document)) in self._planned


def plan_of(document: Mapping[str, Any]) -> Plan | None:
    """Return the plan that a Workspace carries, or None where it carries none that can be read."""
    text = notes_of(document).get(labels.PLAN)
    return _read(text) if isinstance(text, str) else None


@lru_cache(maxsize=REMEMBERED)
def _read(text: str) -> Plan | None:
    """A plan outlives many changes of labels and of other annotations."""
    try:
        return Plan.model_validate_json(text)
    except ValueError:
        return None


def _name(fleet: Fleet, *content: Any) -> bytes:
    """A name for the content; the catalogue is the fleet file's."""
    return hashlib.blake2b(orjson.dumps([fleet.digest, *content]), digest_size=16).digest()


def _put(memory: dict[bytes, Any], name: bytes, value: Any) -> None:
    memory[name] = value
    if len(memory) > REMEMBERED:
        # Another thread may be at it too.
        with contextlib.suppress(RuntimeError, StopIteration, KeyError):
            del memory[next(iter(memory))]


def _judge(document: Mapping[str, Any], catalog: Catalog, fleet: Fleet) -> Judged:
    reading = workspaces.read(document)
    verdict = rules.judge(reading, catalog, fleet)
    problems = list(verdict.problems)
    workspace = reading.workspace
    carried: Plan | None = None
    if workspace is not None:
        carried, found = _carried(workspace, verdict, fleet)
        problems += found
    plan = None
    if workspace is not None and verdict.decision is not None:
        plan = carried or verdict.decision.unexplained
        if plan.namespace != workspace.namespace:
            plan = plan.model_copy(update={"namespace": workspace.namespace})
    return Judged(tuple(problems), plan, carried is not None, _audit(verdict))


def _carried(workspace: Workspace, verdict: Verdict, fleet: Fleet) -> tuple[Plan | None, list[Problem]]:
    """Return the plan that the Workspace carries, and what is wrong with it."""
    text = workspace.annotations.get(labels.PLAN)
    if text is None:
        reason, fix = "no plan is rendered, so nothing runs", "run `berth render` and commit"
        return None, [Problem(_PLAN, None, reason, fix, "warning", "not-rendered")]
    plan = _read(text)
    if plan is None:
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
