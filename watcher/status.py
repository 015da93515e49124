"""The whole status of a Workspace from one look: counts, nodes, endpoint and conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kube.objects import mappings, metadata
from watcher import conditions, endpoints, nodes, pods
from watcher.conditions import Said
from watcher.reasons import MEANINGS, Condition, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.moves import Moves
    from watcher.nodes import View
    from watcher.scene import Scene
    from watcher.world import ClaimKind, Object, Rails

PATIENCE = 3
"""Attempts that fail in a row before a Workspace is said to be stalled; they go on all the same."""


def of(scene: Scene, moves: Moves, rails: Rails) -> Object:
    """Return the status; the same look gives the same status, times included."""
    seen = nodes.view(scene, moves, rails)
    plan = scene.reading.plan
    said = _said(scene, moves, seen)
    found: Object = {
        "observedGeneration": _generation(scene),
        "conditions": conditions.written(scene.status, said, _generation(scene), scene.now),
        "workerNodes": list(seen.names),
        "nodes": [entry.to_json() for entry in moves.entries],
    }
    if plan is not None:
        found |= {
            "targetNodeCount": plan.nodes.count,
            "replicas": plan.replicas,
            "readyReplicas": min(pods.ready_replicas(scene), plan.replicas),
        }
        kinds = sorted({claim.instance_type for claim in moves.kept}) or list(
            scene.reading.instance_types[:1]
        )
        found |= {"instanceType": ", ".join(kinds)[:63]} if kinds else {}
    url = endpoints.url(scene)
    return found | ({"endpoint": url} if url else {})


def deleting(scene: Scene, message: str) -> Object:
    """Return the status of a Workspace whose claims are being removed."""
    said = {
        Condition.READY: Said(False, Reason.DELETING, message),
        Condition.RECONCILING: Said(True, Reason.DELETING, message),
        Condition.STALLED: Said(False, Reason.DELETING),
    }
    listed = conditions.written(scene.status, said, _generation(scene), scene.now)
    return {**scene.status, "observedGeneration": _generation(scene), "conditions": listed}


def patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    """Return the merge patch from one status to another; empty where they say the same."""
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    return changed | {key: None for key in before if key not in after}


def reason_of(status: Mapping[str, Any], kind: Condition) -> tuple[str, str]:
    """Return the reason and the message of one condition; empty where it is not there."""
    for one in mappings(status.get("conditions")):
        if one.get("type") == str(kind):
            return str(one.get("reason", "")), str(one.get("message", ""))
    return "", ""


def _said(scene: Scene, moves: Moves, seen: View) -> dict[Condition, Said]:
    if scene.reading.plan is None:
        unknown = Said(False, Reason.NOT_RENDERED, scene.reading.problem)
        three = (Condition.RESOURCE_READY, Condition.INFERENCE_READY, Condition.WORKSPACE_READY)
        return dict.fromkeys(three, unknown) | _not_rendered(scene)
    resource, inference = _resource(moves, seen), _inference(scene, seen)
    said = {Condition.RESOURCE_READY: resource, Condition.INFERENCE_READY: inference}
    if moves.way.claims is not None:
        kind = moves.way.claims.kind
        condition = Condition.MACHINE_READY if kind == "Machine" else Condition.NODE_CLAIM_READY
        said[condition] = _claims(moves, seen, kind)
    if scene.reading.problem:
        worst = Said(False, Reason.NOT_RENDERED, scene.reading.problem)
        return said | {Condition.WORKSPACE_READY: worst} | _not_rendered(scene)
    if resource.holds and inference.holds:
        ready = Said(True, Reason.READY, inference.message)
        return said | {
            Condition.WORKSPACE_READY: ready,
            Condition.READY: ready,
            Condition.RECONCILING: Said(False, Reason.READY),
            Condition.STALLED: Said(False, Reason.READY),
        }
    worst = inference if resource.holds else resource
    stalled = _stalled(scene, moves, worst)
    said |= {Condition.WORKSPACE_READY: worst, Condition.READY: worst}
    if stalled is not None:
        return said | {
            Condition.RECONCILING: Said(False, stalled.reason),
            Condition.STALLED: stalled,
        }
    waits = worst.message if resource.holds else nodes.waiting(scene, moves, seen)
    return said | {
        Condition.RECONCILING: Said(True, worst.reason, waits),
        Condition.STALLED: Said(False, Reason.PROGRESSING),
    }


def _not_rendered(scene: Scene) -> dict[Condition, Said]:
    against = Said(False, Reason.NOT_RENDERED, scene.reading.problem)
    holds = Said(True, Reason.NOT_RENDERED, scene.reading.problem)
    return {
        Condition.NOT_RENDERED: holds,
        Condition.READY: against,
        Condition.RECONCILING: Said(False, Reason.NOT_RENDERED),
        Condition.STALLED: holds,
    }


def _resource(moves: Moves, seen: View) -> Said:
    counted = f"{min(seen.ready, seen.needed)} of {seen.needed} nodes are ready"
    if seen.all_ready:
        return Said(True, Reason.NODES_READY, counted)
    if seen.why is None:
        return Said(False, Reason.NODES_MISSING, counted)
    return Said(False, seen.why.reason, f"{counted}: {seen.why.message}")


def _claims(moves: Moves, seen: View, kind: ClaimKind) -> Said:
    wanted = max(0, seen.needed - len(moves.given))
    counted = f"{min(seen.claims_ready, wanted)} of {wanted} {kind}s are ready"
    if seen.claims_ready >= wanted:
        return Said(True, Reason.NODES_READY, counted)
    why = next((finding for finding in seen.findings if finding.of_claim), None)
    if why is None:
        return Said(False, Reason.NODES_MISSING, counted)
    return Said(False, why.reason, f"{counted}: {why.message}")


def _inference(scene: Scene, seen: View) -> Said:
    plan = scene.reading.plan
    wanted = plan.replicas if plan is not None else 0
    answering = min(pods.ready_replicas(scene), wanted)
    counted = f"{answering} of {wanted} replicas answer"
    if answering >= wanted:
        return Said(True, Reason.PODS_READY, counted)
    if not scene.snapshot.workloads and not scene.snapshot.pods:
        return Said(False, Reason.WORKLOAD_MISSING, f"{counted}: {scene.object_name} is not synced")
    against = pods.trouble(scene, nodes_ready=seen.all_ready)
    if against is not None:
        return Said(False, against.reason, f"{counted}: {against.message}")
    if not all(pods.of_plan(scene, one) for one in scene.snapshot.workloads):
        return Said(False, Reason.ROLLING_OUT, f"{counted}: the pods' new settings are not synced")
    doing = pods.loading(scene)
    return Said(False, Reason.PODS_NOT_READY, f"{counted}: {doing}" if doing else counted)


def _stalled(scene: Scene, moves: Moves, worst: Said) -> Said | None:
    if MEANINGS[worst.reason].stalls:
        return Said(True, worst.reason, worst.message)
    trying = [entry for entry in moves.entries if entry.failures >= PATIENCE and entry.reason]
    if trying:
        entry = max(trying, key=lambda one: one.failures)
        return Said(
            True, Reason(entry.reason), f"failed {PATIENCE} times and is tried again: {entry.message}"
        )
    stuck = pods.stuck(scene)
    return Said(True, worst.reason, f"{worst.message}; {stuck}") if stuck is not None else None


def _generation(scene: Scene) -> int:
    value = metadata(scene.snapshot.workspace).get("generation")
    return value if isinstance(value, int) else 0
