"""One pass over one Workspace: look, decide, and say what to do. No I/O, no clock of its own.

Level-triggered: nothing is concluded from an event, only from what is there. Whoever carries out a decision
may fail at any step; the next pass starts from what is there then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher import moves, status
from watcher.reasons import Condition, Reason
from watcher.scene import Blocked, Scene
from watcher.world import (
    AddFinalizer,
    Create,
    Decision,
    Delete,
    PatchStatus,
    RemoveFinalizer,
    Tell,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from berth.fleet import Fleet
    from watcher.moves import Moves
    from watcher.world import Action, Object, Rails, Snapshot

DELETING_AGAIN_S = 5.0
_NORMAL = frozenset(
    {Reason.NODES_MISSING, Reason.NODES_READY, Reason.PODS_NOT_READY, Reason.ROLLING_OUT, Reason.READY,
     Reason.WORKLOAD_MISSING, Reason.PODS_READY}
)  # fmt: skip
"""Reasons that are told as normal; every other is a warning."""


def decide(snapshot: Snapshot, fleet: Fleet, rails: Rails, now: datetime) -> Decision:
    """Return what this pass does, in its order: the finalizer before the first claim, the status last."""
    scene = Scene(snapshot, fleet, now)
    if scene.deleting:
        return _delete(scene, rails)
    planned = moves.plan(scene, rails)
    if scene.reading.problem:
        planned = planned.held(Blocked(Reason.NOT_RENDERED, scene.reading.problem))
    after = status.of(scene, planned, rails)
    change = status.patch(scene.status, after)
    actions = [
        *_finalizer(scene, planned, rails),
        *_claims(scene, planned),
        *_told(scene, planned, after),
        *([PatchStatus(change)] if change else []),
    ]
    outcome, _ = status.reason_of(after, Condition.READY)
    return Decision(tuple(actions), planned.again_s, tuple(after["workerNodes"]), outcome)


def _delete(scene: Scene, rails: Rails) -> Decision:
    """Remove our claims; the finalizer goes when a live look shows none that is not being deleted.

    Karpenter ends what is terminating in its own time, and needs nothing of the Workspace for it.
    """
    if not scene.has_finalizer:
        return Decision(outcome=Reason.DELETING)
    alive = [claim for claim in scene.claims if not claim.terminating]
    if not alive:
        done: tuple[Action, ...] = (RemoveFinalizer(),) if scene.snapshot.live and not rails.dry_run else ()
        return Decision(done, None if done else DELETING_AGAIN_S, outcome=Reason.DELETING)
    names = ", ".join(claim.name for claim in alive)
    removals: list[Action] = []
    if rails.dry_run:
        message = f"dry run: {names} would be removed"
    elif scene.snapshot.refused:
        message = f"the API server refuses to have {names} removed: {scene.snapshot.refused}"
    else:
        message = f"removing {names}"
        removals = [Delete(claim.kind, claim.name, claim.uid) for claim in alive]
    change = status.patch(scene.status, status.deleting(scene, message))
    told = [PatchStatus(change)] if change else []
    return Decision((*removals, *told), DELETING_AGAIN_S, outcome=Reason.DELETING)


def _finalizer(scene: Scene, planned: Moves, rails: Rails) -> Iterator[Action]:
    """The finalizer stands while there is, or may be, something to clean."""
    if rails.dry_run:
        return
    if (planned.creates or scene.claims) and not scene.has_finalizer:
        yield AddFinalizer()
    elif scene.has_finalizer and not scene.claims and not planned.entries and not scene.reading.problem:
        yield RemoveFinalizer()


def _claims(scene: Scene, planned: Moves) -> Iterator[Action]:
    """Removals first: they make room, and what fails there must not be paid for twice."""
    for claim, why in planned.deletes:
        yield Delete(claim.kind, claim.name, claim.uid)
        yield Tell("Normal", "NodeRemoved", f"{claim.kind} {claim.name} ({claim.instance_type}): {why}")
    claims = planned.way.claims
    if claims is None:
        return
    for entry in planned.creates:
        body = claims.body(scene, entry.index, entry.attempt, entry.instance_type)
        yield Create(claims.kind, body)
        yield Tell("Normal", "NodeRequested", f"{claims.kind} {entry.name} of {entry.instance_type}")


def _told(scene: Scene, planned: Moves, after: Object) -> Iterator[Action]:
    """What people look for with `kubectl describe`: that a reason is another one now, and strangers."""
    for kind in (Condition.RESOURCE_READY, Condition.INFERENCE_READY, Condition.READY):
        reason, message = status.reason_of(after, kind)
        if reason and reason != status.reason_of(scene.status, kind)[0]:
            same = kind is Condition.READY and reason in {
                status.reason_of(after, other)[0]
                for other in (Condition.RESOURCE_READY, Condition.INFERENCE_READY)
            }
            if not same:
                yield Tell("Normal" if reason in _NORMAL else "Warning", reason, message)
    if planned.blocked is not None and planned.blocked.reason is Reason.CLAIM_REFUSED:
        yield Tell("Warning", Reason.CLAIM_REFUSED, planned.blocked.message)
    for claim in scene.foreign:
        if not claim.terminating:
            note = (
                f"{claim.kind} {claim.name} has this Workspace's labels and was not made by berth; it stays"
            )
            yield Tell("Warning", "ForeignClaim", note)
