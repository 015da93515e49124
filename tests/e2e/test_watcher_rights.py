"""The watcher lives with the platform's rights and no others, and owns no field that git owns."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import yaml

from generator.platform import access, frame
from kube import resources
from tests.watcher import specs
from tests.watcher.specs import planned, workload
from tests.watcher.stage import NAMESPACE, Stage, play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Kubectl


def restricted(cluster: Kubectl, folder: Path, way: str) -> Path:
    """Return a kubeconfig of the watcher's account, with the rights that `berth install` gives it."""
    settings = frame.Settings(fleet=specs.fleet_of(way))
    roles = yaml.safe_dump_all(access.watcher(settings))
    inside = ("-n", frame.NAMESPACE)
    for words in (("namespace", frame.NAMESPACE), ("serviceaccount", frame.WATCHER, *inside)):
        made = cluster("create", *words, "--dry-run=client", "-o", "yaml").out
        cluster("apply", "-f", "-", stdin=made)
    cluster("apply", "-f", "-", stdin=roles)
    config = json.loads(cluster.kubeconfig.read_text())
    token = cluster("create", "token", frame.WATCHER, *inside).out.strip()
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    path = folder / "restricted"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("way", ["nodeclaim", "machine", "none"])
def test_a_whole_life_needs_the_platforms_rights_and_no_others(
    watched: Kubectl, tmp_path: Path, way: str
) -> None:
    async def scene(stage: Stage) -> None:
        kubeconfig = await asyncio.to_thread(restricted, watched, tmp_path, way)
        workspace = planned("phi", NAMESPACE, provisioning=way)
        if way == "none":
            await stage.simulator.add_node("mine", specs.A100, 1, apps="phi")
        await stage.apply(workspace, workload(workspace))
        replica = await stage.watcher(kubeconfig, namespace=frame.NAMESPACE, name=frame.WATCHER)
        there = await stage.until_ready("phi")
        for one in there["metadata"]["managedFields"]:
            if one["manager"] == "berth-watcher":
                owned = one["fieldsV1"]
                assert set(owned) <= {"f:metadata", "f:status"}
                assert set(owned.get("f:metadata", {})) <= {"f:finalizers"}
        managers = {one["manager"] for one in there["metadata"]["managedFields"]}
        assert managers == {"git", "berth-watcher"}
        assert (await stage.client.list(resources.EVENTS, namespace=NAMESPACE)).items
        await stage.delete("phi")
        await stage.until_gone("phi")
        await stage.until_no_claims()
        assert not [line for line in replica.metrics.text().decode().splitlines() if "Forbidden" in line]
        term = replica.watcher.term
        assert term is not None
        assert sum(one.restarts["denied"] for one in term.cache.reflectors) == 0

    play(watched.kubeconfig, scene, fleet=specs.fleet_of(way))
