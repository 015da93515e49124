"""The plan that git rendered, as the Workspace carries it; the watcher never plans for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from berth import labels, names, workspaces
from berth.plans import PLAN_VERSION, Plan
from kube.objects import metadata, notes_of

if TYPE_CHECKING:
    from berth.workspaces import LabelRequirement
    from watcher.world import Object

_AGAIN = "run `berth render` and commit its output"


@dataclass(frozen=True, slots=True)
class Reading:
    """A Workspace's plan; with a `problem` it may be looked at, but no node is made or removed by it."""

    plan: Plan | None = None
    problem: str = ""
    expressions: tuple[LabelRequirement, ...] = ()
    """What the spec asks of nodes besides the plan's labels."""

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The instance types for which the plan holds, the planned one first."""
        if self.plan is None or self.plan.nodes.instance_type is None:
            return ()
        return (self.plan.nodes.instance_type, *self.plan.nodes.fallback_instance_types)

    @property
    def provisioning(self) -> str:
        """Who makes the nodes; nobody, where the plan names no instance type."""
        return self.plan.nodes.provisioning if self.plan is not None and self.instance_types else "none"

    @property
    def node_pool(self) -> str:
        """The NodePool that was rendered, which knows the namespace only if git does."""
        return names.of_cluster(self.plan.namespace, self.plan.name) if self.plan is not None else ""


def read(document: Object) -> Reading:
    """Read a Workspace's plan, and say why it may not be obeyed."""
    text = notes_of(document).get(labels.PLAN)
    if not isinstance(text, str):
        return Reading(problem=f"no plan: {_AGAIN}")
    try:
        plan = Plan.model_validate_json(text)
    except ValidationError:
        return Reading(problem=f"the plan cannot be read: {_AGAIN}, with the version of berth that runs here")
    if plan.version > PLAN_VERSION:
        return Reading(
            problem=f"the plan is of version {plan.version}, and this watcher knows {PLAN_VERSION}"
        )
    workspace = workspaces.read(document).workspace
    if workspace is None:
        return Reading(plan, f"the spec cannot be read: correct it, {_AGAIN}")
    expressions = tuple(workspace.resource.match_expressions)
    if plan.name != metadata(document).get("name"):
        return Reading(plan, f"the plan is that of Workspace {plan.name}: {_AGAIN}", expressions)
    if plan.spec_digest != workspace.spec_digest:
        return Reading(plan, f"the plan was rendered from another spec than this one: {_AGAIN}", expressions)
    return Reading(plan, "", expressions)
