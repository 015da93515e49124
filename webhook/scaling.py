"""`kubectl scale` and everything that scales: a Scale holds a number and a selector, and nothing of a plan.

So the plan is that of the Workspace which the selector names, if the webhook has seen it, as with budgets. A
Workspace that is not known stops nothing: then the workload's own next edit tells of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels
from kube.objects import mapping, metadata
from webhook import verdicts
from webhook.reviews import Response
from webhook.workloads import replica_problems

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from berth.plans import Plan
    from webhook.reviews import Request

KIND = "Scale"
_LEADER, _WORKER = "leader", "worker"


def judge(request: Request, known: Iterable[Mapping[str, Any]]) -> Response:
    """Say whether a workload may have so many replicas."""
    asked = mapping((request.object or {}).get("spec")).get("replicas", 0)
    before = mapping((request.old or {}).get("spec")).get("replicas", 0)
    selector = _selector(mapping((request.object or {}).get("status")).get("selector"))
    name = selector.get(labels.WORKSPACE)
    if name is None:
        return Response(request, "ignored")
    plan = _plan(known, request.namespace or "default", name)
    if plan is None:
        return Response(request, "unknown-plan")
    problems = tuple(replica_problems(asked, before, _most(plan, selector.get(labels.ROLE))))
    denied = any(problem.severity == "error" for problem in problems)
    return Response(request, "denied" if denied else "scaled", problems[0].rule if problems else "", problems)


def _selector(text: Any) -> dict[str, str]:
    """Equalities of a selector in its text form."""
    if not isinstance(text, str):
        return {}
    pairs = (part.partition("=") for part in text.split(","))
    return {key.strip(): value.lstrip("=").strip() for key, _, value in pairs}


def _plan(known: Iterable[Mapping[str, Any]], namespace: str, name: str) -> Plan | None:
    for document in known:
        own = metadata(document)
        if own.get("name") == name and own.get("namespace", "default") == namespace:
            return verdicts.plan_of(document)
    return None


def _most(plan: Plan, role: str | None) -> int:
    """The replicas that the plan has nodes for; those of one group are its pods."""
    if role == _LEADER:
        return 1
    return plan.nodes_per_replica - 1 if role == _WORKER else plan.replicas
