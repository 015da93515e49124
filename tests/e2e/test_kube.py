"""The client, the reflector and the lease on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from kube import errors
from kube.client import Client
from kube.events import Recorder
from kube.leases import Leader
from kube.reflector import Change, Reflector
from kube.resources import CONFIG_MAPS, EVENTS, LEASES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


def play(cluster: Any, scene: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        client = await Client.connect(cluster.kubeconfig, user_agent="berth-tests")
        try:
            await scene(client)
        finally:
            await client.close()

    asyncio.run(run())


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_an_object_lives_and_every_refusal_has_its_error(cluster: Any, namespace: str) -> None:
    async def scene(client: Client) -> None:
        made = await client.create(CONFIG_MAPS, config_map(namespace, "one", a="1"))
        with pytest.raises(errors.AlreadyExists):
            await client.create(CONFIG_MAPS, config_map(namespace, "one", a="1"))
        changed = await client.patch(CONFIG_MAPS, "one", {"data": {"a": "2"}}, namespace=namespace)
        with pytest.raises(errors.Conflict):
            await client.replace(CONFIG_MAPS, made)
        again = await client.replace(CONFIG_MAPS, {**changed, "data": {"a": "3"}})
        assert again["data"] == {"a": "3"}
        with pytest.raises(errors.Conflict):
            await client.delete(CONFIG_MAPS, "one", namespace=namespace, uid="another")
        await client.delete(CONFIG_MAPS, "one", namespace=namespace, uid=made["metadata"]["uid"])
        with pytest.raises(errors.NotFound):
            await client.get(CONFIG_MAPS, "one", namespace)
        with pytest.raises(errors.Invalid):
            await client.create(CONFIG_MAPS, config_map(namespace, "Not A Name"))

    play(cluster, scene)


def test_apply_owns_what_it_states(cluster: Any, namespace: str) -> None:
    async def scene(client: Client) -> None:
        body = config_map(namespace, "applied", a="1")
        await client.apply(CONFIG_MAPS, config_map(namespace, "applied", a="2"), manager="somebody")
        await client.apply(CONFIG_MAPS, body, manager="berth-tests")
        there = await client.get(CONFIG_MAPS, "applied", namespace)
        assert there["data"] == {"a": "1"}
        assert [entry["manager"] for entry in there["metadata"]["managedFields"]] == ["berth-tests"]

    play(cluster, scene)


def test_the_reflector_follows_the_server(cluster: Any, namespace: str) -> None:
    async def scene(client: Client) -> None:
        told: list[tuple[str, str]] = []

        def note(change: Change) -> None:
            told.append((change.type, change.key[1]))

        await client.create(CONFIG_MAPS, config_map(namespace, "before"))
        reflector = Reflector(client, CONFIG_MAPS, namespace=namespace, on_event=note, watch_s=(1.0, 1.5))
        async with running(reflector.run()):
            await reflector.synced()
            # Streams end after about a second here, so that changes fall between them too.
            for turn in range(30):
                await client.create(CONFIG_MAPS, config_map(namespace, f"turn-{turn}"))
                await asyncio.sleep(0.1)
            await client.delete(CONFIG_MAPS, "before", namespace=namespace)
            await until(lambda: ("DELETED", "before") in told)
            assert [name for kind, name in told if name.startswith("turn-")] == [
                f"turn-{n}" for n in range(30)
            ]
            assert reflector.restarts["ended"] >= 1
            listing = await client.list(CONFIG_MAPS, namespace=namespace)
            assert {item["metadata"]["name"] for item in listing.items} == {
                k[1] for k, _ in reflector.store.items()
            }

    play(cluster, scene)


def test_one_leads_and_the_next_follows_at_once_when_it_ends(cluster: Any, namespace: str) -> None:
    async def scene(client: Client) -> None:
        inside: list[str] = []
        most = 0

        def leader(identity: str) -> Leader:
            return Leader(
                client,
                namespace=namespace,
                name="lead",
                identity=identity,
                duration_s=3,
                renew_s=2,
                retry_s=0.3,
            )

        async def work(identity: str) -> None:
            nonlocal most
            inside.append(identity)
            most = max(most, len(inside))
            try:
                await asyncio.sleep(60)
            finally:
                inside.remove(identity)

        first, second = leader("first"), leader("second")
        async with running(second.run(lambda: work("second"))):
            async with running(first.run(lambda: work("first"))):
                await until(lambda: bool(inside))
                await asyncio.sleep(4)
                assert len(inside) == 1
                one, other = (first, second) if inside == ["first"] else (second, first)
                one.check()
                with pytest.raises(errors.NotLeading):
                    other.check()
            await until(lambda: inside == ["second"])
            lease = await client.get(LEASES, "lead", namespace)
            assert lease["spec"]["holderIdentity"] == "second"
        assert most == 1
        assert (await client.get(LEASES, "lead", namespace))["spec"]["holderIdentity"] == ""

    play(cluster, scene)


def test_an_event_that_repeats_is_one_event_with_a_count(cluster: Any, namespace: str) -> None:
    async def scene(client: Client) -> None:
        regarding = await client.create(CONFIG_MAPS, config_map(namespace, "told"))
        now = [0.0]
        recorder = Recorder(client, controller="berth.dev/tests", instance="one", clock=lambda: now[0])
        assert await recorder.record(regarding, "Warning", "NoCapacity", "no GPUs left", "Create")
        assert not await recorder.record(regarding, "Warning", "NoCapacity", "no GPUs left", "Create")
        now[0] = 1000.0
        assert await recorder.record(regarding, "Warning", "NoCapacity", "no GPUs left", "Create")
        events = (await client.list(EVENTS, namespace=namespace)).items
        assert [event["series"]["count"] for event in events] == [3]

    play(cluster, scene)
