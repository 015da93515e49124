"""The demo's node step: what the node-watcher decides about a rendered Workspace, as if a cluster had it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import yaml

from berth import fleet as fleets
from generator import texts
from tools.demo_steps import StepFailed
from watcher import reconcile, world

if TYPE_CHECKING:
    from tools.demo_steps import Steps

UID = "5a1f9d0e-3a54-4c0e-9d7c-6b1c8f3f2a10"
"""An API server gives one; the node's name is made from it."""


def run(steps: Steps) -> None:
    """Show the node that the watcher would ask for, and what it would write into the status."""
    steps.title("What the node-watcher does with it: one node, asked for once")
    steps.say("No cluster is here, so this is its decision alone. In one:")
    steps.command("python -m watcher --kubeconfig ~/.kube/config --dry-run")
    file = steps.folder / "rendered" / "small" / "workspace-small.yaml"
    workspace = yaml.safe_load(file.read_text())
    workspace["metadata"] |= {"namespace": "default", "uid": UID, "generation": 1}
    seen = world.Snapshot(
        workspace, served={"nodeclaim": "karpenter.sh/v1", "machine": None, "nodepool": None}
    )
    decision = reconcile.decide(seen, fleets.Fleet(), world.Rails(), datetime.now(UTC))
    made = [action for action in decision.actions if isinstance(action, world.Create)]
    if len(made) != 1:
        raise StepFailed(f"the watcher would make {len(made)} nodes")
    steps.say(texts.document(made[0].body).rstrip())
    for action in decision.actions:
        if isinstance(action, world.PatchStatus):
            for condition in action.status["conditions"]:
                if condition["type"] in ("Ready", "Reconciling"):
                    steps.say(f"{condition['type']}: {condition['status']}, {condition['message']}")
