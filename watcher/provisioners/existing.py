"""Nodes that are there already: those that match the selector, have the GPUs and are no one else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth import labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from berth.workspaces import LabelRequirement
    from watcher.observed import Node
    from watcher.scene import Blocked, Scene

GRACE_S = 600.0
"""A node that was counted and is not ready is counted this much longer: kubelets restart."""


class Existing:
    """`provisioning: none`."""

    claims = None

    def blocked(self, scene: Scene) -> Blocked | None:
        """Nothing closes this way."""
        return None

    def given(self, scene: Scene, wanted: int) -> tuple[Node, ...]:
        """Return the nodes to count, the likeliest first."""
        return select(scene, wanted, strict=False)

    def needed(self, scene: Scene) -> int:
        """Every planned node."""
        return scene.count


def select(scene: Scene, wanted: int, *, strict: bool) -> tuple[Node, ...]:
    """Return existing nodes: the preferred, those with our pods, those counted before, then by name.

    With `strict` a node has to carry the instance type's label, since the pods ask for it.
    """
    plan = scene.reading.plan
    if plan is None or wanted <= 0:
        return ()
    backed = {claim.node for claim in scene.claims if claim.node}
    found = [
        node for node in scene.nodes.values()
        if node.name not in backed and node.name not in scene.snapshot.taken and _usable(scene, node, strict)
    ]  # fmt: skip
    preferred = {name: place for place, name in enumerate(plan.nodes.preferred)}
    found.sort(
        key=lambda node: (
            preferred.get(node.name, len(preferred)),
            not scene.pods_on.get(node.name),
            node.name not in scene.workers,
            node.name,
        )
    )
    return tuple(found[:wanted])


def matches(node: Node, tags: Mapping[str, str], expressions: Iterable[LabelRequirement]) -> bool:
    """Say whether a node has a selector's labels."""
    if any(node.labels.get(key) != value for key, value in tags.items()):
        return False
    return all(_meets(node.labels, one) for one in expressions)


def _meets(tags: Mapping[str, str], wanted: LabelRequirement) -> bool:
    value = tags.get(wanted.key)
    if wanted.operator == "In":
        return value in wanted.values
    if wanted.operator == "NotIn":
        return value not in wanted.values
    return (value is None) is (wanted.operator == "DoesNotExist")


def _usable(scene: Scene, node: Node, strict: bool) -> bool:
    plan, counted = scene.reading.plan, node.name in scene.workers
    if plan is None or not matches(node, plan.nodes.labels, scene.reading.expressions):
        return False
    if _anothers(scene, node.labels):
        return False
    kind = node.labels.get(labels.INSTANCE_TYPE)
    if scene.reading.instance_types and kind not in scene.reading.instance_types and (strict or kind):
        return False
    if not node.ready:
        return counted and (scene.now - node.since).total_seconds() < GRACE_S
    return counted or (node.schedulable and node.gpus >= plan.nodes.gpus_per_node)


def _anothers(scene: Scene, tags: Mapping[str, str]) -> bool:
    """Whether a node was made for somebody: it goes with its claim, or a NodePool takes it away."""
    if labels.WORKSPACE_UID in tags:
        return True
    if tags.get(labels.NODE_POOL, labels.KAITO_POOL) != labels.KAITO_POOL:
        return True
    owner = (
        tags.get(labels.WORKSPACE_NAMESPACE, scene.namespace),
        tags.get(labels.WORKSPACE, scene.object_name),
    )
    return owner != (scene.namespace, scene.object_name)
