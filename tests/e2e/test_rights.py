"""The watcher and the webhook have the rights that they use and no others, by the API server's audit log.

Each lives through what needs its rights with its own account. Nothing may be refused on the way, and every
single verb of its roles must have been used: without it, that request would have been refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from berth.fleet import Fleet
from generator.platform import access, frame
from kube import events, resources
from kube.errors import Unreachable
from tests.e2e import rights, webhooks
from tests.e2e.conftest import ROOT, Kubectl, free_ports, start
from tests.watcher import specs
from tests.watcher.simulator import until
from tests.watcher.specs import A100, planned, workload
from tests.watcher.stage import Replica, Stage, play
from webhook.certificates import folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WAYS = ("nodeclaim", "machine", "nodepool", "none")
ROUTES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "httproutes.gateway.networking.k8s.io",
        "annotations": {
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/2997"
        },
    },
    "spec": {
        "group": "gateway.networking.k8s.io",
        "scope": "Namespaced",
        "names": {
            "kind": "HTTPRoute",
            "listKind": "HTTPRouteList",
            "plural": "httproutes",
            "singular": "httproute",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


@pytest.fixture
def audited(programs: Mapping[str, Path], tmp_path: Path) -> Iterator[Kubectl]:
    """An API server of the test's own that writes down who asked what."""
    with contextlib.ExitStack() as stack:
        kubeconfig = start(programs, tmp_path, stack, *rights.flags(tmp_path))
        yield Kubectl(programs["kubectl"], kubeconfig)


def lose_answers(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first claim is made, and nobody hears of it: the watcher has to look."""
    create = replica.client.create
    lost: list[str] = []

    async def losing(resource: resources.Resource, body: Any) -> Any:
        made = await create(resource, body)
        if resource in (resources.NODE_CLAIMS, resources.MACHINES) and not lost:
            lost.append(made["metadata"]["name"])
            raise Unreachable("the answer was lost")
        return made

    monkeypatch.setattr(replica.client, "create", losing)


def meddle(replica: Replica, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody changes the Workspace just before it is written: the watcher has to read it again."""
    patch = replica.client.patch
    done: list[bool] = []

    async def late(resource: resources.Resource, name: str, body: Any, **more: Any) -> Any:
        if resource == resources.WORKSPACES and not done:
            done.append(True)
            note = {"metadata": {"annotations": {"example.com/touched": "yes"}}}
            await stage.client.patch(resource, name, note, namespace=stage.namespace)
        return await patch(resource, name, body, **more)

    monkeypatch.setattr(replica.client, "patch", late)


async def life(stage: Stage, kubeconfig: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One Workspace comes and goes, with a lost answer, a conflict and a sentence said twice."""
    if way == "none":
        await stage.simulator.add_node("mine", A100, 1, apps="phi")
    if way == "nodepool":
        await stage.simulator.add_node("pooled", A100, 1, apps="phi")
    workspace = planned("phi", stage.namespace, provisioning=way)
    if way in ("nodepool", "none"):
        # Nodes came in another way before, so a finalizer is left to be taken off.
        workspace["metadata"]["finalizers"] = [labels.FINALIZER]
    await stage.apply(workspace, workload(workspace))
    replica = await stage.watcher(kubeconfig, namespace=frame.NAMESPACE, name=frame.WATCHER)
    lose_answers(replica, monkeypatch)
    meddle(replica, stage, monkeypatch)
    await stage.until_condition("phi", "Ready")
    if way in ("nodeclaim", "machine", "none"):
        await stage.until_ready("phi")

    recorder = events.Recorder(replica.client, controller="berth.dev/watcher", instance="tests")
    there = await stage.workspace("phi")
    for _ in range(2):
        assert await recorder.record(there, "Normal", "Test", "said twice", "Look")
    await stage.delete("phi")
    await stage.until_no_claims()
    await stage.until_gone("phi")
    await replica.stop()
    stage.replicas.clear()


@pytest.mark.parametrize("way", WAYS)
def test_the_watcher_uses_every_right_and_needs_no_other(
    audited: Kubectl, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "QUIET_S", 0.0)
    audited("apply", "--server-side", "-f", "-", stdin=json.dumps(ROUTES))
    things = list(access.watcher(frame.Settings(Fleet(provisioning=way))))  # type: ignore[arg-type]
    account = rights.limited(audited, tmp_path, frame.WATCHER, frame.NAMESPACE, things)

    async def scene(stage: Stage) -> None:
        await life(stage, account, way, monkeypatch)

    play(audited.kubeconfig, scene, fleet=specs.fleet_of(way))
    roles = rights.granted(things)
    assert rights.refused(tmp_path, frame.WATCHER) == []
    assert sorted(roles - rights.used(tmp_path, frame.WATCHER, roles)) == []


@pytest.mark.parametrize("certificates", ["own", "cert-manager"])
def test_the_webhook_uses_every_right_and_needs_no_other(
    audited: Kubectl, tmp_path: Path, certificates: frame.Certificates
) -> None:
    """Certificates from nothing, an exchange, and two replicas that leave."""
    settings = frame.Settings(certificates=certificates)
    things = list(access.webhook(settings))
    crds = str(ROOT / "manifests" / "platform" / "crds")
    audited("apply", "--server-side", "-f", crds)
    audited("wait", "--for=condition=Established", "crd/workspaces.kaito.sh", "--timeout=30s")
    audited("create", "namespace", "users")
    config = webhooks.limited(audited, tmp_path, settings)
    flags: tuple[str, ...] = ()
    if certificates == "cert-manager":
        place = tmp_path / "certificates"
        folder.ensure(place, ("127.0.0.1",), datetime.now(UTC))
        flags = ("--certificates", "files", "--cert-dir", str(place))
    world = webhooks.World(audited, "users", tmp_path, config, flags=flags)
    with webhooks.cleaned(world):
        ports = dict(zip(("validate", "mutate"), free_ports(2), strict=True))
        webhooks.configure(world, ports)
        for name, port in ports.items():
            world.start(name, port, free_ports(1)[0])
        webhooks.until(lambda: all(one.ready for one in world.replicas.values()), 60, world)
        if certificates == "own":
            webhooks.until(lambda: world.bundles() == {world.secret()["ca.crt"]}, 20, world)
            assert world.rotate().returncode == 0
        watch = rights.Right(labels.GROUP, "workspaces", "watch")
        webhooks.until(lambda: watch in rights.used(tmp_path, frame.WEBHOOK, {watch}), 20, world)
        for replica in world.replicas.values():
            replica.process.send_signal(signal.SIGTERM)
            replica.process.wait(timeout=60)
    roles = rights.granted(things)
    assert rights.refused(tmp_path, frame.WEBHOOK) == []
    assert sorted(roles - rights.used(tmp_path, frame.WEBHOOK, roles)) == []


def test_after_a_change_of_provisioning_a_person_deletes_the_old_nodes(
    audited: Kubectl, tmp_path: Path
) -> None:
    """The watcher may not, says so on the Workspace, and lets go as soon as somebody has."""
    things = list(access.watcher(frame.Settings(Fleet(provisioning="none"))))
    account = rights.limited(audited, tmp_path, frame.WATCHER, frame.NAMESPACE, things)

    async def scene(stage: Stage) -> None:
        workspace = planned("phi", stage.namespace)
        await stage.apply(workspace, workload(workspace))
        before = await stage.watcher()
        await stage.until_ready("phi")
        await before.stop()
        stage.replicas.clear()

        stage.fleet = specs.fleet_of("none")
        await stage.simulator.add_node("mine", A100, 1, apps="phi")
        replanned = planned("phi", stage.namespace, provisioning="none")
        await stage.apply(replanned, workload(replanned))
        await stage.watcher(account, namespace=frame.NAMESPACE, name=frame.WATCHER)

        async def told() -> bool:
            found = (await stage.client.list(resources.EVENTS, namespace=stage.namespace)).items
            return any("nodeclaims" in one["note"] and "forbidden" in one["note"] for one in found)

        await until(told, "an event says what is forbidden")
        await asyncio.sleep(5)
        tries = [right for right, _ in rights.asked(tmp_path, frame.WATCHER) if right.verb == "delete"]
        assert len(tries) < 20, "it tries again and again without a pause"
        (claim,) = await stage.claims()
        assert labels.FINALIZER in (await stage.workspace("phi"))["metadata"]["finalizers"]

        await stage.client.delete(resources.NODE_CLAIMS, claim["metadata"]["name"])
        await stage.until_no_claims()

        async def free() -> bool:
            return labels.FINALIZER not in (await stage.workspace("phi"))["metadata"].get("finalizers", [])

        await until(free, "the finalizer is gone")

    play(audited.kubeconfig, scene)
