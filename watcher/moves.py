"""Which claims to make and which to remove; the heart of the watcher.

As long as there are as many fitting claims as the plan wants nothing is made, whatever their indices. What is
too much goes idle and youngest first. A claim that no longer fits is replaced: the new one is made first
where the rails allow it, and the old one goes when no pod of the Workspace is on it, or, one at a time, when
every new node is ready and every replica answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from watcher import attempts, pods, rails
from watcher.observed import Stage
from watcher.provisioners import WAYS
from watcher.reasons import Reason
from watcher.records import Entry
from watcher.scene import Blocked

if TYPE_CHECKING:
    from watcher.observed import Claim, Node
    from watcher.provisioners import Provisioner
    from watcher.scene import Scene
    from watcher.world import Rails

BLOCKED_AGAIN_S = 60.0
REFUSED_AGAIN_S = 300.0


@dataclass(frozen=True)
class Moves:
    """What to make and to remove, and what is remembered afterwards."""

    way: Provisioner
    kept: tuple[Claim, ...] = ()
    """Claims that count, the best first."""
    given: tuple[Node, ...] = ()
    """Nodes that count without a claim of ours."""
    creates: tuple[Entry, ...] = ()
    deletes: tuple[tuple[Claim, str], ...] = ()
    """Each with the reason, for the Event."""
    entries: tuple[Entry, ...] = ()
    missing: int = 0
    """Nodes that there should be and are not even asked for, those of `creates` included."""
    blocked: Blocked | None = None
    again_s: float | None = None

    @property
    def no_room(self) -> bool:
        """Whether more nodes would be more than may be had at a time."""
        return self.blocked is not None and self.blocked.reason in (Reason.OVER_BUDGET, Reason.OVER_LIMIT)

    @property
    def have(self) -> int:
        """Nodes that there are or will be, without another move."""
        return len(self.kept) + len(self.given)

    def held(self, blocked: Blocked | None) -> Moves:
        """The same, with nothing done and the reason why."""
        made = {entry.index for entry in self.creates}
        kept = tuple(Entry(one.index, one.attempt) if one.index in made else one for one in self.entries)
        return replace(self, creates=(), deletes=(), entries=kept, blocked=blocked)


def plan(scene: Scene, held: Rails) -> Moves:
    """Return what brings the claims to what the plan wants, one pass nearer."""
    way = WAYS[scene.reading.provisioning]
    alive = [claim for claim in scene.claims if not claim.terminating]
    if scene.reading.plan is None:
        return Moves(way, tuple(alive), entries=tuple(scene.entries.values()))
    frozen = bool(scene.reading.problem) or scene.paused or held.dry_run
    current = [claim for claim in alive if way.claims is not None and way.claims.fits(scene, claim)]
    outdated = [claim for claim in alive if claim not in current]
    stays = frozen or bool(scene.snapshot.refused)
    moves, surplus, due = _wanted(scene, way, current, outdated, give_up=not stays)
    moves = _with_creates(scene, moves, due, held)
    removed = _superfluous(scene, moves, surplus, outdated)
    moves = replace(moves, deletes=(*moves.deletes, *removed))
    idle = not moves.creates and not moves.deletes
    if frozen:
        return moves.held(moves.blocked if idle else _told(moves, dry_run=not scene.paused))
    if scene.snapshot.refused and not idle:
        return _refused(scene, moves)
    if moves.no_room and (removed or any(claim.terminating for claim in scene.claims)):
        return replace(moves, blocked=None)  # room is being made
    return moves


def _wanted(
    scene: Scene, way: Provisioner, current: list[Claim], outdated: list[Claim], *, give_up: bool
) -> tuple[Moves, list[Claim], list[Entry]]:
    """Return what counts and what is missing, the claims that are too much, and the entries that are due."""
    kept, given, surplus = _counted(scene, way, current)
    entries = attempts.advanced(scene, kept)
    given_up = [claim for claim in kept if give_up and claim.failure is not None and claim.failure.elsewhere]
    kept = [claim for claim in kept if claim not in given_up]
    failed = {claim.index: attempts.failed(scene, entries[claim.index], claim) for claim in given_up}
    missing = scene.count - len(kept) - len(given) if way.claims is not None else 0
    staying = {claim.index for claim in [*kept, *surplus, *outdated]}
    slots = attempts.slots(scene, staying, {**entries, **failed}, missing)
    moves = Moves(
        way=way,
        kept=tuple(kept),
        given=given,
        deletes=tuple((claim, "it could not be had") for claim in given_up),
        entries=tuple(sorted([*(entries[claim.index] for claim in kept), *slots], key=lambda one: one.index)),
        missing=missing,
        again_s=attempts.next_s(scene, slots, kept, given),
    )
    due = [entry for entry in slots if entry.retry_at is None or entry.retry_at <= scene.now]
    return moves, surplus, due


def _refused(scene: Scene, moves: Moves) -> Moves:
    message = f"the API server refuses to have a claim made or removed: {scene.snapshot.refused}"
    later = _sooner(moves.again_s, REFUSED_AGAIN_S)
    return replace(moves.held(Blocked(Reason.CLAIM_REFUSED, message)), again_s=later)


def _counted(
    scene: Scene, way: Provisioner, current: list[Claim]
) -> tuple[list[Claim], tuple[Node, ...], list[Claim]]:
    """Return the claims and given nodes that count, and the claims that are too much.

    Of two claims of one index, which a second leader may have made, the better one counts. A given node only
    fills a gap: one that seems to be there already may be the very node of a claim that is on its way.
    """
    ranked = sorted(current, key=lambda claim: _worth(scene, claim))
    best: dict[int, Claim] = {}
    for claim in ranked:
        best.setdefault(claim.index, claim)
    candidates = [claim for claim in ranked if best[claim.index] is claim]
    kept = candidates[: scene.count]
    given = way.given(scene, scene.count - len(kept))
    return kept, given, [claim for claim in ranked if claim not in kept]


def _worth(scene: Scene, claim: Claim) -> tuple[bool, int, float, str]:
    """The better a claim the smaller: with pods, further on, older."""
    return not scene.pods_on.get(claim.node), -claim.stage, claim.created.timestamp(), claim.name


def _with_creates(scene: Scene, moves: Moves, due: list[Entry], held: Rails) -> Moves:
    if moves.missing <= 0:
        return moves
    closed = moves.way.blocked(scene)
    if closed is not None:
        return replace(moves, blocked=closed, again_s=_sooner(moves.again_s, BLOCKED_AGAIN_S))
    if not due:
        return moves
    answer = rails.allow(scene, [entry.instance_type for entry in due], held, have=moves.have)
    made = {entry.index: attempts.asked(scene, entry) for entry in due[: answer.allowed]}
    entries = tuple(made.get(entry.index, entry) for entry in moves.entries)
    again = BLOCKED_AGAIN_S if answer.blocked is not None else None
    return replace(
        moves,
        creates=tuple(made.values()),
        entries=entries,
        blocked=answer.blocked,
        again_s=_sooner(moves.again_s, again),
    )


def _superfluous(
    scene: Scene, moves: Moves, surplus: list[Claim], outdated: list[Claim]
) -> list[tuple[Claim, str]]:
    """Return the claims to remove now: idle ones at once, those with pods one at a time and only late."""
    too_many, other = "the plan wants fewer nodes", "the plan wants another node"
    gone = [(claim, too_many) for claim in surplus if not scene.pods_on.get(claim.node)]
    gone += [(claim, other) for claim in outdated if not scene.pods_on.get(claim.node)]
    if gone or any(claim.terminating for claim in scene.claims):
        return gone
    busy_surplus = [claim for claim in surplus if scene.pods_on.get(claim.node)]
    busy_outdated = [claim for claim in outdated if scene.pods_on.get(claim.node)]
    if busy_surplus and not pods.excess(scene):
        return [(_least(scene, busy_surplus), too_many)]
    if not busy_outdated:
        return []
    if moves.no_room:
        return [(_least(scene, busy_outdated), f"{other}, and there is no room for both")]
    up = all(claim.stage is Stage.READY for claim in moves.kept) and all(node.ready for node in moves.given)
    if up and moves.have >= moves.way.needed(scene) and pods.settled(scene):
        return [(_least(scene, busy_outdated), other)]
    return []


def _least(scene: Scene, claims: list[Claim]) -> Claim:
    """The claim that is missed least: with the fewest pods, then the youngest."""
    return min(claims, key=lambda one: (scene.pods_on.get(one.node, 0), -one.created.timestamp(), one.name))


def _sooner(first: float | None, second: float | None) -> float | None:
    known = [one for one in (first, second) if one is not None]
    return min(known) if known else None


def _told(moves: Moves, *, dry_run: bool) -> Blocked:
    parts = []
    if moves.creates:
        kinds = sorted({entry.instance_type for entry in moves.creates})
        parts.append(f"{len(moves.creates)} × {', '.join(kinds)} would be asked for")
    if moves.deletes:
        parts.append(f"{', '.join(sorted(claim.name for claim, _ in moves.deletes))} would be removed")
    said = " and ".join(parts)
    if dry_run:
        return Blocked(Reason.DRY_RUN, f"dry run: {said}")
    return Blocked(Reason.PAUSED, f"paused by the annotation berth.dev/paused: {said}")
