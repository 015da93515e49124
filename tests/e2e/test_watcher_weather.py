"""The faulty network plays every fault that it names, and a seed plays the same weather again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kube import errors
from kube.client import Client
from kube.resources import CONFIG_MAPS
from tests.watcher import faults
from tests.watcher.faults import Proxy, Weather

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

NAMESPACE = "default"


class Only(Weather):
    """One fault, every time that it is possible."""

    def __init__(self, fault: str) -> None:
        super().__init__(1, 1.0)
        self.fault = fault

    def draw(self, sort: str, faults: tuple[str, ...]) -> Any:
        _, dice = super().draw(sort, faults)
        return (self.fault if self.fault in faults else ""), dice


def body(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def play(cluster: Kubectl, folder: Path, weather: Weather, scene: Any) -> None:
    async def run() -> None:
        proxy = Proxy(cluster.kubeconfig, weather)
        async with proxy.running(folder) as path:
            client = await Client.connect(path, user_agent="tests", timeout_s=5, tries=1)
            honest = await Client.connect(cluster.kubeconfig, user_agent="tests")
            try:
                async with asyncio.timeout(60):
                    await scene(client, honest)
            finally:
                await client.close()
                await honest.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "expected", "written"),
    [
        ("429", errors.TooManyRequests, False),
        ("500", errors.ApiError, False),
        ("dropped", errors.Unreachable, False),
        ("answer lost", errors.Unreachable, True),
        ("500 after the write", errors.ApiError, True),
        ("arrives late", errors.Unreachable, True),
        ("slow body", None, True),
    ],
)
def test_a_write_fails_as_its_fault_says(
    cluster: Kubectl, tmp_path: Path, fault: str, expected: Any, written: bool
) -> None:
    name = "fault-" + "".join(letter if letter.isalnum() else "-" for letter in fault)

    async def scene(client: Client, honest: Client) -> None:
        if expected is None:
            await client.create(CONFIG_MAPS, body(name))
        else:
            with pytest.raises(expected):
                await client.create(CONFIG_MAPS, body(name))
        await asyncio.sleep(faults.LATE_S + 0.3 if fault == "arrives late" else 0)
        there = [
            one["metadata"]["name"] for one in (await honest.list(CONFIG_MAPS, namespace=NAMESPACE)).items
        ]
        assert (name in there) is written

    play(cluster, tmp_path, Only(fault), scene)


@pytest.mark.parametrize("fault", faults.WATCH_FAULTS)
def test_a_watch_ends_as_its_fault_says(cluster: Kubectl, tmp_path: Path, fault: str) -> None:
    async def scene(client: Client, honest: Client) -> None:
        version = (await honest.list(CONFIG_MAPS, namespace=NAMESPACE)).resource_version
        expected = errors.Gone if "410" in fault else errors.Unreachable
        with pytest.raises(expected):
            async for _ in client.watch(CONFIG_MAPS, resource_version=version, timeout_s=30):
                pass

    play(cluster, tmp_path, Only(fault), scene)


def test_a_seed_plays_the_same_weather_however_requests_interleave() -> None:
    sorts = [("POST nodeclaims", faults.WRITE_FAULTS), ("WATCH nodes", faults.WATCH_FAULTS)]

    def told(order: list[int], seed: int) -> dict[str, list[str]]:
        weather, found = Weather(seed, 0.4), {sort: list[str]() for sort, _ in sorts}
        for which in order:
            found[sorts[which][0]].append(weather.draw(*sorts[which])[0])
        return found

    assert told([0] * 40 + [1] * 40, 7) == told([0, 1] * 40, 7)
    assert told([0] * 40, 7) != told([0] * 40, 8)


@pytest.mark.parametrize(
    ("target", "sort"),
    [
        ("/apis/karpenter.sh/v1/nodeclaims/ws123", "nodeclaims"),
        ("/apis/kaito.sh/v1beta1/namespaces/a/workspaces/b/status", "workspaces/status"),
        ("/api/v1/nodes?watch=true", "nodes"),
        ("/api/v1/namespaces/a/pods", "pods"),
    ],
)
def test_requests_of_one_sort_have_one_name(target: str, sort: str) -> None:
    assert faults.plural(target) == sort
