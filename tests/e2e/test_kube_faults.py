"""What a real API server does to a client on a bad day: refusals, forgotten versions, a lease taken away."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from kube import errors
from kube.client import Client, Listing
from kube.leases import Leader
from kube.reflector import Change, Reflector
from kube.resources import CONFIG_MAPS, LEASES, SECRETS, WORKSPACES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from tests.e2e.conftest import Kubectl


def play(kubeconfig: Path, scene: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        client = await Client.connect(kubeconfig, user_agent="berth-tests")
        try:
            async with asyncio.timeout(60):
                await scene(client)
        finally:
            await client.close()

    asyncio.run(run())


def workspace(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": WORKSPACES.api_version,
        "kind": "Workspace",
        "metadata": {"name": name, "namespace": namespace},
        "resource": {"labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "phi-4-mini-instruct"}},
    }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def reader(cluster: Kubectl, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of somebody who may read ConfigMaps, and nothing else."""
    inside = ("-n", namespace)
    cluster("create", "serviceaccount", "reader", *inside)
    cluster("create", "role", "reader", "--verb=get,list,watch", "--resource=configmaps", *inside)
    cluster(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader", *inside
    )
    token = cluster("create", "token", "reader", *inside).out.strip()
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_a_refusal_closes_no_watch(cluster: Kubectl, namespace: str, reader: Path) -> None:
    async def scene(client: Client) -> None:
        told: list[Change] = []
        reflector = Reflector(client, CONFIG_MAPS, namespace=namespace, on_event=told.append)
        running = asyncio.create_task(reflector.run())
        await reflector.synced()
        for _ in range(3):
            with pytest.raises(errors.Forbidden, match="cannot list"):
                await client.list(SECRETS, namespace=namespace)
        await asyncio.to_thread(cluster, "create", "configmap", "later", "-n", namespace)
        await until(lambda: any(change.key[1] == "later" for change in told))
        assert not reflector.restarts
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(reader, scene)


def test_a_version_that_the_server_forgot_means_to_list_again(cluster: Kubectl, namespace: str) -> None:
    async def scene(client: Client) -> None:
        # The server began to remember Workspaces when their definition came, long after version 1.
        with pytest.raises(errors.Gone):
            await anext(client.watch(WORKSPACES, resource_version="1", timeout_s=5))
        real, answers = client.list, []

        async def late(*given: Any, **named: Any) -> Listing:
            """Answer the first time as if the list were from long ago."""
            listing = await real(*given, **named)
            answers.append(listing)
            return Listing([], "1") if len(answers) == 1 else listing

        client.list = late  # type: ignore[method-assign]
        await client.create(WORKSPACES, workspace(namespace, "one"))
        reflector = Reflector(client, WORKSPACES, namespace=namespace)
        running = asyncio.create_task(reflector.run())
        await until(lambda: reflector.store.get((namespace, "one")) is not None)
        assert reflector.restarts == {"gone": 1}
        await client.create(WORKSPACES, workspace(namespace, "two"))
        await until(lambda: reflector.store.get((namespace, "two")) is not None)
        assert len(answers) == 2
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    play(cluster.kubeconfig, scene)


def test_who_lost_the_lease_stops_working_and_waits_for_it(cluster: Kubectl, namespace: str) -> None:
    async def scene(client: Client) -> None:
        inside: list[int] = []

        async def work() -> None:
            inside.append(1)
            try:
                await asyncio.sleep(60)
            finally:
                inside.pop()

        leader = Leader(
            client, namespace=namespace, name="lead", identity="ours", duration_s=3, renew_s=2, retry_s=0.3
        )
        running = asyncio.create_task(leader.run(work))
        await until(lambda: bool(inside))
        theirs = {"spec": {"holderIdentity": "theirs", "leaseDurationSeconds": 2}}
        await client.patch(LEASES, "lead", theirs, namespace=namespace)
        await until(lambda: not inside)
        with pytest.raises(errors.NotLeading):
            leader.check()
        await until(lambda: bool(inside))  # theirs was never renewed
        lease = await client.get(LEASES, "lead", namespace)
        assert lease["spec"]["holderIdentity"] == "ours"
        assert leader.transitions == 2
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not inside

    play(cluster.kubeconfig, scene)
