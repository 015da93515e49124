"""The platform's own webhook configurations at a real API server: budgets, scaling, edits by hand.

One replica with the platform's rights answers; what it knows of other objects it has from its own watch.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth import labels
from generator.platform import frame
from tests.e2e.conftest import free_ports
from tests.e2e.webhooks import World, as_installed, cleaned, limited, until
from tests.webhook.asking import rendered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl, Result

EXAMPLES = "manifests/examples/kaito"
ONE, OTHER = "workspace-falcon-7b", "workspace-falcon-7b-instruct"
"""Each takes a node of two GPUs."""


@pytest.fixture
def world(cluster: Kubectl, namespace: str, tmp_path: Path) -> Iterator[World]:
    fleet = tmp_path / "berth.yaml"
    fleet.write_text(yaml.safe_dump({"cloud": "azure", "budgets": {namespace: {"gpus": 3}}}))
    port, plain = free_ports(2)
    found = World(cluster, namespace, tmp_path, limited(cluster, tmp_path), flags=("--fleet", str(fleet)))
    with cleaned(found):
        for one in as_installed(frame.Settings(), port):
            cluster("apply", "--server-side", "-f", "-", stdin=json.dumps(one))
        found.start("one", port, plain)
        until(lambda: found.replicas["one"].ready, 60, found)
        until(lambda: found.submit()[0] == 0, 20, found)
        yield found
        cluster("delete", "workspaces,deployments", "--all", "-n", namespace)


def workspace(name: str) -> dict[str, Any]:
    return copy.deepcopy(rendered("Workspace")[f"{EXAMPLES}/{name}/workspace-{name}.yaml"])


def deployment(name: str) -> dict[str, Any]:
    return copy.deepcopy(rendered("Deployment")[f"{EXAMPLES}/{name}/deployment-{name}.yaml"])


def create(world: World, document: dict[str, Any], *flags: str) -> Result:
    return world.cluster(
        "create", "-n", world.namespace, *flags, "-f", "-", stdin=json.dumps(document), check=False
    )


def known(world: World) -> int:
    found = re.search(
        r"^berth_webhook_workspaces_cached ([0-9.]+)$", world.replicas["one"].page("metrics")[1], re.M
    )
    return int(float(found[1])) if found else 0


def test_a_second_workspace_over_the_namespaces_budget_is_refused(world: World) -> None:
    before = known(world)
    assert create(world, workspace(ONE)).code == 0
    until(lambda: known(world) == before + 1, 20, world)
    for dry in ((), ("--dry-run=server",)):
        refused = create(world, workspace(OTHER), *dry)
        assert refused.code == 1
        assert f"namespace {world.namespace} would take 4 GPUs, and its budget is 3" in refused.err
        assert "resource.count" in refused.err
    # What counts already is no second one, and whoever leaves makes room.
    again = workspace(ONE)
    again["metadata"]["annotations"]["note"] = "changed"
    applied = world.cluster(
        "apply", "--server-side", "-n", world.namespace, "-f", "-", stdin=json.dumps(again), check=False
    )
    assert applied.code == 0, applied.err
    world.cluster("delete", "workspace", ONE, "-n", world.namespace)
    until(lambda: known(world) == before, 20, world)
    assert create(world, workspace(OTHER)).code == 0


def test_scaling_beyond_the_plan_is_refused_and_everything_else_scales(world: World) -> None:
    before = known(world)
    assert create(world, workspace(ONE)).code == 0
    assert create(world, deployment(ONE)).code == 0
    plain = deployment(ONE)
    plain["metadata"] = {"name": "plain"}
    plain["spec"]["selector"] = {"matchLabels": {"app": "plain"}}
    plain["spec"]["template"]["metadata"] = {"labels": {"app": "plain"}}
    assert create(world, plain).code == 0
    until(lambda: known(world) == before + 1, 20, world)

    def scale(name: str, replicas: int) -> Result:
        return world.cluster(
            "scale", f"deployment/{name}", f"--replicas={replicas}", "-n", world.namespace, check=False
        )

    refused = scale(ONE, 2)
    assert refused.code == 1
    assert "2 replicas are asked for, and the plan has nodes for 1" in refused.err
    assert [scale(ONE, replicas).code for replicas in (0, 1)] == [0, 0]
    assert scale("plain", 7).code == 0


TWO = f"{labels.GPU_RESOURCE}=2"
EDITS: dict[str, tuple[tuple[str, ...], str]] = {
    "another image": (
        ("set", "image", f"deployment/{ONE}", "server=ghcr.io/berth-dev/berth/serving:0.9.0-cuda12"),
        "only its registry and path may differ",
    ),
    "a variable": (
        ("set", "env", f"deployment/{ONE}", "GGML_CUDA_ENABLE_UNIFIED_MEMORY=1"),
        "sets the engine behind the plan's back",
    ),
    "more GPUs": (
        ("set", "resources", f"deployment/{ONE}", "-c", "server", f"--limits={TWO}", f"--requests={TWO}"),
        "2 GPUs are asked for, and the plan needs 1 in each pod",
    ),
    "our label": (("label", f"deployment/{ONE}", f"{labels.WORKSPACE}-"), "nobody would compare it any more"),
    "the plan's copy": (
        ("annotate", f"deployment/{ONE}", f"{labels.SERVER}-"),
        "the copy of the plan was removed",
    ),
}


def test_edits_by_hand_are_refused_and_restarts_are_not(world: World) -> None:
    assert create(world, deployment(ONE)).code == 0
    for command, told in EDITS.values():
        refused = world.cluster(*command, "-n", world.namespace, check=False)
        assert refused.code == 1, command
        assert told in refused.err
    for command in (
        ("rollout", "restart", f"deployment/{ONE}"),
        ("set", "image", f"deployment/{ONE}", "server=mirror.example.com/serving:0.1.0-cuda12"),
        ("label", f"deployment/{ONE}", "team=chat"),
    ):
        world.cluster(*command, "-n", world.namespace)
