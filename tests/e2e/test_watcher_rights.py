"""The watcher lives with the platform's rights and no others, and owns no field that git owns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from generator.platform import access, frame
from kube import resources
from tests.e2e import rights
from tests.watcher import specs
from tests.watcher.specs import planned, workload
from tests.watcher.stage import NAMESPACE, Stage, play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Kubectl


@pytest.mark.parametrize("way", ["nodeclaim", "machine", "none"])
def test_a_whole_life_needs_the_platforms_rights_and_no_others(
    watched: Kubectl, tmp_path: Path, way: str
) -> None:
    async def scene(stage: Stage) -> None:
        things = access.watcher(frame.Settings(fleet=specs.fleet_of(way)))
        kubeconfig = await asyncio.to_thread(
            rights.limited, watched, tmp_path, frame.WATCHER, frame.NAMESPACE, things
        )
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
