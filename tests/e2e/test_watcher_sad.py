"""What goes wrong with nodes, and what the Workspace says and the watcher does then; on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from kube import resources
from kube.errors import ApiError, NotFound
from tests.watcher import specs
from tests.watcher.faults import Proxy, Weather
from tests.watcher.simulator import Script, until
from tests.watcher.specs import A100, T4, planned, workload
from tests.watcher.stage import NAMESPACE, Stage, condition, play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

CAPACITY = ("InsufficientCapacity", "all requested instance types were unavailable during launch")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for kinds that come and go every half second."""
    monkeypatch.setattr("kube.reflector.ABSENT_S", 0.5)


async def start(stage: Stage, **spec: Any) -> None:
    """Bring one Workspace with its workload, and a replica of the watcher."""
    workspace = planned("phi", NAMESPACE, **spec)
    await stage.apply(workspace, workload(workspace))
    await stage.watcher()


def test_without_capacity_the_fallback_is_taken(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        await start(stage, fallbacks=(T4,))
        there = await stage.until_ready("phi")
        assert [kind for _, kind in stage.simulator.launched] == [T4]
        assert there["status"]["instanceType"] == T4
        found = (await stage.client.list(resources.EVENTS, namespace=NAMESPACE)).items
        assert any("InsufficientCapacity" in (one["reason"], *one["note"].split()) for one in found)

    script = Script(refused={A100: CAPACITY})
    play(watched.kubeconfig, scene, script=script, fleet=specs.fleet_of("nodeclaim", (T4,)))


@pytest.mark.parametrize(
    ("deletes", "reason", "words"),
    [
        (True, *CAPACITY),
        (False, "NodeClassNotReady", 'NodeClass "gpu" is not ready'),
        (False, "LaunchFailed", "creating instance: quota of family NCADS_A100 exceeded"),
    ],
    ids=["no capacity", "wrong class", "no quota"],
)
def test_the_reason_stands_on_the_workspace_and_it_goes_on_when_that_is_over(
    watched: Kubectl, deletes: bool, reason: str, words: str
) -> None:
    async def scene(stage: Stage) -> None:
        await start(stage)

        async def told() -> bool:
            found = condition(await stage.workspace("phi"), "NodeClaimReady")
            return found is not None and found["status"] == "False" and words in found["message"]

        await until(told, "the provisioner's words on the Workspace")
        resource = condition(await stage.workspace("phi"), "ResourceReady")
        assert resource is not None
        assert resource["status"] == "False"
        stage.script.refused.clear()
        for _ in range(3):
            stage.clock.jump(3600)
            stage.replicas[0].wake()
            await asyncio.sleep(0.3)
        await stage.until_ready("phi")
        assert len(await stage.claims()) == 1

    script = Script(refused={A100: (reason, words)}, deletes_refused=deletes)
    play(watched.kubeconfig, scene, script=script)


def test_a_lost_node_is_told_and_made_again(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        await start(stage)
        await stage.until_ready("phi")
        [claim] = await stage.claims()
        stage.script.silent = True
        await stage.client.delete(resources.NODE_CLAIMS, claim["metadata"]["name"])
        told = await stage.until_condition("phi", "ResourceReady", status="False")
        assert claim["metadata"]["name"] in told["message"]
        stage.script.silent = False
        await stage.until_ready("phi")
        [again] = [one for one in await stage.claims() if "deletionTimestamp" not in one["metadata"]]
        assert again["metadata"]["annotations"][labels.ATTEMPT] == "1"

    play(watched.kubeconfig, scene)


def test_a_node_that_is_not_ready_is_told_and_kept(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        await start(stage)
        there = await stage.until_ready("phi")
        [node] = there["status"]["workerNodes"]
        await stage.simulator.show_node(node, ready=False, gpus=1)
        told = await stage.until_condition("phi", "ResourceReady", reason="NodesNotReady", status="False")
        assert node in told["message"]
        await stage.simulator.show_node(node, ready=True, gpus=0)
        told = await stage.until_condition("phi", "ResourceReady", reason="GpusMissing", status="False")
        await stage.simulator.show_node(node, ready=True, gpus=1)
        await stage.until_ready("phi")
        assert len(stage.simulator.launched) == 1

    play(watched.kubeconfig, scene)


def test_a_definition_that_is_removed_while_it_runs_is_a_condition_and_comes_back(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        await start(stage)
        other = planned("given", NAMESPACE, provisioning="none")
        await stage.simulator.add_node("mine", A100, 1, apps="given")
        await stage.apply(other, workload(other))
        await stage.until_ready("phi")
        await stage.until_ready("given")
        await remove_definition(stage)
        told = await stage.until_condition("phi", "NodeClaimReady", reason="ProvisionerMissing")
        assert "NodeClaim" in told["message"]
        await stage.client.delete(resources.WORKSPACES, "given", namespace=NAMESPACE)
        await stage.until_gone("given")  # the rest goes on
        await stage.define(resources.NODE_CLAIMS)
        for _ in range(3):
            stage.clock.jump(3600)
            await asyncio.sleep(0.5)
            stage.replicas[0].wake()
        await stage.until_ready("phi")

    play(watched.kubeconfig, scene)


def test_a_workspace_can_be_deleted_while_the_definition_is_missing(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        await start(stage)
        await stage.until_ready("phi")
        await remove_definition(stage)
        await stage.delete("phi")
        await stage.until_gone("phi")

    play(watched.kubeconfig, scene)


async def remove_definition(stage: Stage) -> None:
    """Remove the NodeClaims' definition, and with it every NodeClaim; nobody ends them properly any more."""
    name = "nodeclaims.karpenter.sh"
    await stage.client.delete(resources.CRDS, name)

    async def gone() -> bool:
        for claim in await stage.claims():
            with contextlib.suppress(ApiError):
                nothing = {"metadata": {"finalizers": None}}
                await stage.client.patch(resources.NODE_CLAIMS, claim["metadata"]["name"], nothing)
        try:
            await stage.client.get(resources.CRDS, name)
        except NotFound:
            return True
        return False

    await until(gone, "the definition is gone")


@pytest.mark.parametrize("ready", [True, False], ids=["when all is up", "while the node is launched"])
def test_a_namespace_is_deleted_with_its_nodes(watched: Kubectl, ready: bool) -> None:
    async def scene(stage: Stage) -> None:
        doomed = f"doomed-{ready}".lower()
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": doomed}}
        await stage.client.create(resources.NAMESPACES, body)
        workspace = planned("phi", doomed)
        await stage.apply(workspace, workload(workspace))
        stage.script.silent = not ready
        stage.namespace = doomed
        await stage.watcher(namespace=NAMESPACE)
        if ready:
            await stage.until_ready("phi")
        else:
            await until(stage.claims, "a claim")
        # The namespace controller's part: from now on nothing can be created in there, and everything goes.
        await stage.client.delete(resources.NAMESPACES, doomed)
        await stage.delete("phi")
        await stage.until_gone("phi")
        await stage.until_no_claims()

    play(watched.kubeconfig, scene)


def test_claims_of_others_are_left_alone(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        theirs = {labels.WORKSPACE: "phi", labels.WORKSPACE_NAMESPACE: NAMESPACE, labels.NODE_POOL: "kaito"}
        metadata = {"name": "wsold", "labels": theirs}
        requirement = {"key": labels.INSTANCE_TYPE, "operator": "In", "values": [A100]}
        await stage.client.create(resources.NODE_CLAIMS, {
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": metadata,
            "spec": {
                "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
                "requirements": [requirement],
            },
        })  # fmt: skip
        stage.simulator.kept.add("wsold")
        await start(stage)
        await stage.until_ready("phi")
        await stage.delete("phi")
        await stage.until_gone("phi")

        async def alone() -> bool:
            return [one["metadata"]["name"] for one in await stage.claims()] == ["wsold"]

        await until(alone, "only the claim of others is left")

    play(watched.kubeconfig, scene)


def test_a_claim_that_the_api_server_refuses_is_told_in_its_own_words(watched: Kubectl) -> None:
    async def scene(stage: Stage) -> None:
        name = "no-more-nodes"
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["karpenter.sh"], "apiVersions": ["*"], "operations": ["CREATE"],
                    "resources": ["nodeclaims"],
                }]},
                "validations": [{"expression": "false", "message": "the platform team froze all nodes"}],
            },
        }  # fmt: skip
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]},
        }  # fmt: skip
        root = "/apis/admissionregistration.k8s.io/v1"
        await stage.client._send("POST", f"{root}/validatingadmissionpolicies", body=policy)
        await stage.client._send("POST", f"{root}/validatingadmissionpolicybindings", body=binding)
        try:
            await asyncio.sleep(2)
            await start(stage)
            told = await stage.until_condition("phi", "NodeClaimReady", reason="ClaimRefused", status="False")
            assert "the platform team froze all nodes" in told["message"]
            await stage.until_condition("phi", "Stalled", status="True")
        finally:
            await stage.client._send("DELETE", f"{root}/validatingadmissionpolicybindings/{name}")
            await stage.client._send("DELETE", f"{root}/validatingadmissionpolicies/{name}")

        async def made() -> bool:
            stage.replicas[0].wake()
            return bool(await stage.claims())

        await until(made, "the claim, once it may be")
        await stage.until_ready("phi")

    play(watched.kubeconfig, scene)


class Lost(Weather):
    """Every answer to a create of a claim is lost on its way."""

    def draw(self, sort: str, faults: tuple[str, ...]) -> Any:
        fault, dice = super().draw(sort, faults)
        return ("answer lost" if sort == "POST nodeclaims" else fault), dice


def test_a_claim_whose_answer_was_lost_is_adopted(watched: Kubectl, tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        proxy = Proxy(stage.kubeconfig, Lost(1))
        async with proxy.running(tmp_path) as path:
            workspace = planned("phi", NAMESPACE, count=2)
            await stage.apply(workspace, workload(workspace))
            replica = await stage.watcher(path)
            await stage.until_ready("phi")
            sent = [path for method, path, *_ in proxy.passed if method == "POST" and "nodeclaims" in path]
            assert len(sent) == len(await stage.claims()) == len(stage.simulator.launched) == 2
            await stage.delete("phi")
            await stage.until_gone("phi")
            await stage.until_no_claims()
            await replica.stop()
            stage.replicas.remove(replica)

    play(watched.kubeconfig, scene)
