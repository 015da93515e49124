"""What holds the watcher back and what it never touches, on a real API server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from kube import resources
from tests.watcher.simulator import until
from tests.watcher.specs import A100, planned
from tests.watcher.stage import NAMESPACE, Stage, condition, play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Kubectl


def test_a_claim_whose_workspace_is_gone_is_told_and_left_to_people(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        tags = {
            labels.WORKSPACE_UID: "of-long-ago",
            labels.WORKSPACE: "old",
            labels.WORKSPACE_NAMESPACE: NAMESPACE,
        }
        metadata = {"name": "ws0old", "labels": tags}
        await stage.client.create(resources.NODE_CLAIMS, {
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": metadata,
            "spec": {
                "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
                "requirements": [{"key": labels.INSTANCE_TYPE, "operator": "In", "values": [A100]}],
            },
        })  # fmt: skip
        replica = await stage.watcher()
        await until(lambda: value(replica.metric("orphans") == 1), "one orphan")

        async def told() -> bool:
            found = (await stage.client.list(resources.EVENTS, namespace="default")).items
            return any(one["reason"] == "Orphaned" and "kubectl delete" in one["note"] for one in found)

        await until(told, "an Event about it")
        await stage.apply(planned("old", NAMESPACE))  # of the same name, and another uid
        await stage.until_condition("old", "NodeClaimReady", status="True")
        await stage.delete("old")
        await stage.until_gone("old")
        await asyncio.sleep(0.5)
        assert "ws0old" in {one["metadata"]["name"] for one in await stage.claims()}

    play(watched.kubeconfig, scene)


async def value(found: bool) -> bool:
    return found


def test_limits_of_the_fleet_file_hold_and_change_without_a_restart(watched: Kubectl, tmp_path: Path) -> None:
    file = tmp_path / "berth.yaml"
    file.write_text("limits: {cluster: {nodes: 1}}\n")

    async def scene(stage: Stage) -> None:
        await stage.apply(planned("a", NAMESPACE), planned("b", NAMESPACE))
        replica = await stage.watcher(fleet=file, poll_s=0.2)

        async def one_is_held_back() -> bool:
            told = [condition(await stage.workspace(name), "NodeClaimReady") for name in ("a", "b")]
            return sorted(str(one and one["reason"]) for one in told)[-1] == "OverLimit"

        await until(one_is_held_back, "one is over the limit")
        await asyncio.sleep(0.5)
        assert len(await stage.claims()) == 1
        assert replica.metric('nodes{namespace="models"}') == 1
        file.write_text("limits: {cluster: {nodes: 2}}\n")
        for name in ("a", "b"):
            await stage.until_condition(name, "NodeClaimReady", status="True")
        assert len(await stage.claims()) == 2
        assert replica.metric('cost_per_hour{namespace="models"}') > 0

    play(watched.kubeconfig, scene)


@pytest.mark.parametrize("count", [6])
def test_many_at_once_take_no_more_than_the_limit(watched: Kubectl, tmp_path: Path, count: int) -> None:
    file = tmp_path / "berth.yaml"
    file.write_text("limits: {namespaces: {models: {nodes: 4}}}\n")

    async def scene(stage: Stage) -> None:
        await stage.apply(*(planned(f"w{number}", NAMESPACE) for number in range(count)))
        await stage.watcher(fleet=file)

        async def all_told() -> bool:
            found = [
                condition(await stage.workspace(f"w{number}"), "NodeClaimReady") for number in range(count)
            ]
            reasons = [str(one and one["reason"]) for one in found]
            return reasons.count("OverLimit") == count - 4

        await until(all_told, "all but four are held back")
        assert len(stage.simulator.launched) <= 4
        assert len(await stage.claims()) == 4

    play(watched.kubeconfig, scene)


def test_one_node_is_counted_for_one_workspace(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        for name in ("one", "two"):
            document = planned("shared", NAMESPACE, provisioning="none")
            document["metadata"]["name"] = name
            plan = document["metadata"]["annotations"][labels.PLAN].replace(
                '"name":"shared"', f'"name":"{name}"'
            )
            document["metadata"]["annotations"][labels.PLAN] = plan
            await stage.apply(document)
        await stage.simulator.add_node("first", A100, 1, apps="shared")
        await stage.watcher()

        async def taken(nodes: set[str]) -> bool:
            found = [workers(await stage.workspace(name)) for name in ("one", "two")]
            counted = [node for one in found for node in one]
            return len(counted) == len(set(counted)) and set(counted) == nodes

        await until(lambda: taken({"first"}), "one of them has the node")
        await stage.simulator.add_node("second", A100, 1, apps="shared")
        await until(lambda: taken({"first", "second"}), "each has one node")
        counts = {name: workers(await stage.workspace(name)) for name in ("one", "two")}
        first = next(name for name, nodes in counts.items() if "first" in nodes)
        await stage.client.delete(resources.NODES, "second")
        await until(lambda: taken({"first"}), "the other has none")
        await stage.delete(first)
        await until(lambda: others_turn(stage, first), "the freed node is the other's")

    play(watched.kubeconfig, scene)


async def others_turn(stage: Stage, gone: str) -> bool:
    other = "two" if gone == "one" else "one"
    return workers(await stage.workspace(other)) == ["first"]


def workers(workspace: dict[str, Any]) -> list[str]:
    return [str(name) for name in (workspace.get("status") or {}).get("workerNodes", [])]
