"""What the nodes say: how many are ready, and in one sentence why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from watcher.attempts import SILENCE_S
from watcher.observed import Stage
from watcher.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from watcher.moves import Moves
    from watcher.observed import Claim, Node
    from watcher.scene import Scene
    from watcher.world import Rails


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands against a node, and whether it is known of its claim already."""

    reason: Reason
    message: str
    of_claim: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """The nodes of a Workspace."""

    names: tuple[str, ...]
    """Nodes that count, whether they are ready or not."""
    ready: int
    needed: int
    claims_ready: int
    findings: tuple[Finding, ...]
    """The weightiest first."""

    @property
    def all_ready(self) -> bool:
        """Whether as many nodes are ready as are needed."""
        return self.ready >= self.needed

    @property
    def why(self) -> Finding | None:
        """The weightiest finding."""
        return self.findings[0] if self.findings else None


def view(scene: Scene, moves: Moves, rails: Rails) -> View:
    """Look at the nodes of the claims that count, and at the given ones."""
    own = [(claim, scene.nodes[claim.node]) for claim in moves.kept if claim.node in scene.nodes]
    findings = [*_of_claims(scene, moves)]
    ready = 0
    for claim, node in [*own, *((None, node) for node in moves.given)]:
        against = _against(node, _expected(scene, claim, rails))
        ready += against is None
        findings += [against] if against is not None else []
    return View(
        names=tuple(sorted([*(node.name for _, node in own), *(node.name for node in moves.given)])),
        ready=ready,
        needed=moves.way.needed(scene),
        claims_ready=sum(claim.stage is Stage.READY for claim in moves.kept),
        findings=tuple(findings),
    )


def _of_claims(scene: Scene, moves: Moves) -> Iterator[Finding]:
    if moves.blocked is not None:
        yield Finding(moves.blocked.reason, moves.blocked.message, of_claim=True)
    elif moves.way.claims is None:
        closed = moves.way.blocked(scene)
        if closed is not None:
            yield Finding(closed.reason, closed.message, of_claim=True)
    for entry in moves.entries:
        if entry.reason:
            yield Finding(Reason(entry.reason), entry.message, of_claim=True)
    yield from (
        Finding(claim.failure.reason, f"{claim.name}: {claim.failure.message}", of_claim=True)
        for claim in scene.of_pool
        if claim.failure is not None
    )
    for claim in moves.kept:
        if claim.silent and (scene.now - claim.created).total_seconds() >= SILENCE_S:
            said = f"nobody has taken up {claim.kind} {claim.name}: does its provisioner run?"
            yield Finding(Reason.PROVISIONER_SILENT, said, of_claim=True)
        # A claim's watch may be ahead of the nodes', so a node is missed only after it was seen once.
        before = scene.entries.get(claim.index)
        was_up = before is not None and before.phase == Stage.READY.word
        if was_up and claim.stage is Stage.READY and claim.node not in scene.nodes:
            yield Finding(Reason.NODE_LOST, f"node {claim.node} of {claim.kind} {claim.name} is gone")


def _against(node: Node, gpus: int) -> Finding | None:
    if not node.ready:
        return Finding(Reason.NODES_NOT_READY, f"node {node.name} is not ready")
    if node.gpus < gpus:
        return Finding(Reason.GPUS_MISSING, f"node {node.name} shows {node.gpus} of {gpus} GPUs")
    return None


def _expected(scene: Scene, claim: Claim | None, rails: Rails) -> int:
    """GPUs that a node has to show; a fallback may have fewer than the planned type."""
    plan = scene.reading.plan
    planned = plan.nodes.gpus_per_node if plan is not None else 0
    price = rails.prices.get(claim.instance_type) if claim is not None else None
    return min(planned, price.gpus) if price is not None else planned


def waiting(scene: Scene, moves: Moves, seen: View) -> str:
    """Say what is waited for, as the message of `Reconciling`."""
    count = max(1, seen.needed - seen.ready)
    said = f"waiting for {count} node{'s' if count > 1 else ''}"
    kinds = sorted({entry.instance_type for entry in moves.entries if entry.phase != Stage.READY.word})
    if not kinds or moves.way.claims is None:
        kinds = list(scene.reading.instance_types[:1])
    if kinds:
        said += f" of {' or '.join(kinds)}"
    plan = scene.reading.plan
    if plan is not None and scene.reading.provisioning == "none" and plan.nodes.labels:
        said += f" with {', '.join(f'{key}={value}' for key, value in sorted(plan.nodes.labels.items()))}"
    return said
