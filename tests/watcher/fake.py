"""A way to get nodes that knows no cloud: whatever is asked for can be had, and nothing else counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from berth import labels
from watcher import records

if TYPE_CHECKING:
    from watcher.observed import Claim, Node
    from watcher.scene import Blocked, Scene
    from watcher.world import Object


class FakeClaims:
    """The smallest `Claims`: every claim fits."""

    kind: Literal["NodeClaim"] = "NodeClaim"

    def body(self, scene: Scene, index: int, attempt: int, instance_type: str) -> Object:
        name = records.name(scene.uid, index, attempt)
        own = {labels.INDEX: str(index), labels.ATTEMPT: str(attempt)}
        return {"metadata": {"name": name, "labels": {labels.WORKSPACE_UID: scene.uid}, "annotations": own}}

    def fits(self, scene: Scene, claim: Claim) -> bool:
        return True


class Fake:
    """The smallest `Provisioner`; `closed` closes it."""

    claims = FakeClaims()

    def __init__(self, closed: Blocked | None = None) -> None:
        self.closed = closed

    def blocked(self, scene: Scene) -> Blocked | None:
        return self.closed

    def given(self, scene: Scene, wanted: int) -> tuple[Node, ...]:
        return ()

    def needed(self, scene: Scene) -> int:
        return scene.count
