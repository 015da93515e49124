"""The life of a Workspace on a real API server, for each way in which nodes come, and what people see."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from berth import labels
from kube import resources
from tests.watcher import specs
from tests.watcher.simulator import Script, names, until
from tests.watcher.specs import A100, planned, workload
from tests.watcher.stage import Stage, condition, play

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.conftest import Kubectl, Result

SPEC = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: phi, namespace: models}
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector: {matchLabels: {apps: phi}}
inference:
  preset: {name: phi-4-mini-instruct}
"""
WAYS = ("nodeclaim", "machine", "nodepool", "none")


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What `berth render` makes of one spec, by how the fleet gets its nodes."""
    found = {}
    for way in WAYS:
        folder = tmp_path_factory.mktemp(way)
        (folder / "berth.yaml").write_text(f"provisioning: {way}\n")
        (folder / "phi.yaml").write_text(SPEC)
        done = subprocess.run(
            [sys.executable, "-m", "generator", "render", "phi.yaml", "--out", "-"],
            cwd=folder, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[way] = done.stdout
    return found


async def ask(cluster: Kubectl, *words: str, stdin: str | None = None) -> Result:
    """Run kubectl while the stage goes on playing."""
    return await asyncio.to_thread(cluster, *words, stdin=stdin)


def columns(cluster: Kubectl, *more: str) -> dict[str, str]:
    """Return what `kubectl get workspace` shows."""
    head, row = (line for line in cluster("get", "workspace", "-n", "models", *more).out.splitlines())
    cuts = [*(head.index(name) for name in head.split()), 10_000]
    return {head[a:b].strip(): row[a:b].strip() for a, b in itertools.pairwise(cuts)}


@pytest.mark.parametrize("way", WAYS)
def test_the_life_of_a_workspace(watched: Kubectl, rendered: Mapping[str, str], way: str) -> None:
    of_git = next(one for one in yaml.safe_load_all(rendered[way]) if one["kind"] == "Workspace")
    claims_of = resources.MACHINES if way == "machine" else resources.NODE_CLAIMS

    async def scene(stage: Stage) -> None:
        await ask(watched, "apply", "--server-side", "-f", "-", stdin=rendered[way])
        assert (await asyncio.to_thread(columns, watched))["WORKSPACEREADY"] == ""
        if way == "none":
            await stage.simulator.add_node("mine", A100, 1, apps="phi")
        await stage.watcher()
        await ask(
            watched,
            "wait",
            "--for=condition=WorkspaceReady",
            "workspace/phi",
            "-n",
            "models",
            "--timeout=40s",
        )

        shown = await asyncio.to_thread(columns, watched)
        ready = (shown["RESOURCEREADY"], shown["INFERENCEREADY"], shown["WORKSPACEREADY"])
        assert ready == ("True", "True", "True")
        there = await stage.workspace("phi")
        claims = await stage.claims(claims_of)
        if way == "none":
            assert (claims, there["status"]["workerNodes"]) == ([], ["mine"])
            assert labels.FINALIZER not in there["metadata"].get("finalizers", [])
        else:
            [claim] = claims
            assert there["status"]["workerNodes"] == [f"node-{claim['metadata']['name']}"]
        of_claims = {"nodeclaim": "NodeClaimReady", "machine": "MachineReady"}
        if way in of_claims:
            assert (condition(there, of_claims[way]) or {})["status"] == "True"
            assert claims[0]["metadata"]["labels"][labels.WORKSPACE_UID] == there["metadata"]["uid"]
            assert labels.FINALIZER in there["metadata"]["finalizers"]
        for kind in ("Ready", "Reconciling", "Stalled"):
            told = condition(there, kind)
            assert told is None or told["observedGeneration"] == there["metadata"]["generation"]
        assert {key: there[key] for key in ("resource", "inference")} == {
            key: of_git[key] for key in ("resource", "inference")
        }
        assert there["metadata"]["annotations"] == of_git["metadata"]["annotations"]

        await ask(watched, "delete", "workspace", "phi", "-n", "models", "--timeout=40s")
        if way in of_claims:
            await stage.until_no_claims()
        elif way == "none":
            assert names(await stage.simulator.all(resources.NODES)) == ["mine"]

    play(watched.kubeconfig, scene, fleet=specs.fleet_of(way))


def test_times_of_conditions_move_only_with_their_status(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        workspace = planned("phi", "models")
        await stage.apply(workspace, workload(workspace))
        replica = await stage.watcher()
        before = await stage.until_ready("phi")
        patched = 'actions_total{action="PatchStatus",result="done"}'
        writes = replica.metric(patched)
        for _ in range(3):
            replica.wake()
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)
        after = await stage.workspace("phi")
        assert after["status"] == before["status"]
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert writes >= 1
        assert replica.metric(patched) == writes

    play(watched.kubeconfig, scene)


def test_the_number_of_nodes_follows_git(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        for count in (1, 3, 2):
            workspace = planned("phi", "models", count=count)
            await stage.apply(workspace, workload(workspace))
            if not stage.replicas:
                await stage.watcher()
            await stage.until_condition("phi", "Ready", status="True")

            async def as_many(count: int = count) -> bool:
                there = await stage.workspace("phi")
                workers = there["status"].get("workerNodes", [])
                up = there["status"]["observedGeneration"] == there["metadata"]["generation"]
                return up and len(await stage.claims()) == len(workers) == count

            await until(as_many, f"{count} nodes")
        assert len(stage.simulator.launched) == 3

    play(watched.kubeconfig, scene)


def test_a_workspace_without_a_plan_gets_no_node_and_is_told_what_to_do(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        workspace = planned("phi", "models")
        del workspace["metadata"]["annotations"]
        await stage.apply(workspace)
        await stage.watcher()
        told = await stage.until_condition("phi", "NotRendered", status="True")
        assert "berth render" in told["message"]
        assert await stage.claims() == []
        await stage.apply(planned("phi", "models"))
        await stage.until_condition("phi", "NodeClaimReady", status="True")
        changed = planned("phi", "models")
        changed["resource"]["count"] = 3  # the spec moved on, the plan did not
        await stage.apply(changed)
        told = await stage.until_condition("phi", "NotRendered", status="True")
        assert "another spec" in told["message"]
        assert len(await stage.claims()) == 1

    play(watched.kubeconfig, scene)


def test_events_say_what_happened(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        workspace = planned("phi", "models")
        await stage.apply(workspace, workload(workspace))
        await stage.watcher()
        await stage.until_ready("phi")
        found = (await stage.client.list(resources.EVENTS, namespace="models")).items
        about = [one for one in found if one["regarding"]["kind"] == "Workspace"]
        assert about, "no event"
        assert all(one["reportingController"] == "berth.dev/watcher" for one in about)
        [claim] = await stage.claims()
        assert any(claim["metadata"]["name"] in one["note"] for one in about)

    play(watched.kubeconfig, scene)


def test_a_dry_run_makes_nothing_and_says_so(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        await stage.apply(planned("phi", "models"))
        await stage.watcher(dry_run=True)
        told = await stage.until_condition("phi", "NodeClaimReady", reason="DryRun")
        assert told["status"] == "False"
        assert await stage.claims() == []
        assert labels.FINALIZER not in (await stage.workspace("phi"))["metadata"].get("finalizers", [])

    play(watched.kubeconfig, scene, script=Script())
