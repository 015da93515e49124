"""A stage for the watcher: a real API server with its other controllers, and replicas of ours."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from berth import catalog
from kube import resources
from kube.client import Client
from kube.configuration import Configuration
from kube.errors import AlreadyExists, KubeError, NotFound
from tests.watcher import specs
from tests.watcher.simulator import CLAIMS, Script, Simulator, until
from watcher.metrics import Metrics
from watcher.service import Watcher
from watcher.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from berth.fleet import Fleet
    from kube.resources import Resource

    Object = dict[str, Any]

NAMESPACE = "models"
LATE_S = 1.5
"""For how long a create may still arrive here; the network of these tests is late by less."""
ROOT = Path(__file__).parents[2]
DEFINITIONS = {
    resources.NODE_CLAIMS: ROOT / "tests/data/crds/nodeclaims.karpenter.sh.yaml",
    resources.MACHINES: ROOT / "tests/data/crds/machines.karpenter.sh.yaml",
    resources.NODE_POOLS: ROOT / "tests/data/crds/nodepools.karpenter.sh.yaml",
    resources.WORKSPACES: ROOT / "manifests/platform/crds/customresourcedefinition-workspaces.kaito.sh.yaml",
}


class Clock:
    """The time of the replicas, which a test may move."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def jump(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class Replica:
    """One running watcher."""

    watcher: Watcher
    client: Client
    metrics: Metrics
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """End it as SIGTERM does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.client.close()

    async def crash(self) -> None:
        """End it without a last word: the lease is not handed back, and answers are not waited for."""

        async def nothing() -> None:
            return

        self.watcher.leader._release = nothing  # type: ignore[method-assign]
        await self.stop()

    def wake(self) -> None:
        """Let it look at everything, as time would."""
        if self.watcher.term is not None:
            for key in self.watcher.term.cache.known():
                self.watcher.term.queue.add(key)

    def metric(self, line: str) -> float:
        for text in self.metrics.text().decode().splitlines():
            if text.startswith(f"berth_watcher_{line} "):
                return float(text.rsplit(" ", 1)[1])
        return 0.0


class Stage:
    """What a test has at hand."""

    def __init__(
        self, client: Client, kubeconfig: Path, namespace: str, fleet: Fleet, script: Script
    ) -> None:
        self.client = client
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.fleet = fleet
        self.clock = Clock()
        self.simulator = Simulator(client, script)
        self.script = script
        self.replicas: list[Replica] = []

    async def watcher(self, kubeconfig: Path | None = None, **settings: Any) -> Replica:
        """Start a replica; its lease is this stage's own."""
        client = await Client.connect(
            kubeconfig or self.kubeconfig, user_agent="berth-watcher", timeout_s=settings.pop("timeout_s", 5)
        )
        metrics = Metrics()
        configuration = Configuration(settings.get("fleet"), metrics.reloaded)
        configuration.load()
        if "fleet" not in settings:
            configuration.fleet, configuration.catalog = self.fleet, catalog.load()
        given = Settings(
            namespace=self.namespace, name="watcher", identity=f"replica-{len(self.replicas)}", lease_s=3.0,
            late_s=LATE_S,
        )  # fmt: skip
        watcher = Watcher(client, replace(given, **settings), configuration, metrics, now=self.clock.now)
        replica = Replica(watcher, client, metrics, asyncio.create_task(watcher.run()))
        self.replicas.append(replica)
        return replica

    async def apply(self, *documents: Object) -> None:
        """Bring objects to the cluster as git has them."""
        for document in documents:
            await self.client.apply(_resource(document), document, manager="git")

    async def workspace(self, name: str) -> Object:
        return await self.client.get(resources.WORKSPACES, name, self.namespace)

    async def claims(self, resource: Resource = resources.NODE_CLAIMS) -> list[Object]:
        return await self.simulator.all(resource)

    async def until_condition(self, name: str, kind: str, reason: str = "", status: str = "") -> Object:
        """Wait for a condition's reason or status, and return it."""

        async def holds() -> Object | None:
            found = condition(await self.workspace(name), kind)
            good = found and reason in ("", found["reason"]) and status in ("", found["status"])
            return found if good else None

        try:
            return await until(holds, f"{kind} of {name} is {reason}{status}")  # type: ignore[no-any-return]
        except AssertionError as error:
            there = (await self.workspace(name)).get("status")
            raise AssertionError(f"{error}\n{yaml.safe_dump(there)}") from None

    async def until_ready(self, name: str) -> Object:
        await self.until_condition(name, "WorkspaceReady", status="True")
        return await self.workspace(name)

    async def until_no_claims(self) -> None:
        async def none() -> bool:
            return not [one for kind in CLAIMS for one in await self.simulator.all(kind)]

        await until(none, "no claim is left")

    async def until_gone(self, name: str) -> None:
        async def gone() -> bool:
            try:
                await self.workspace(name)
            except NotFound:
                return True
            return False

        await until(gone, f"{name} is gone")

    async def delete(self, name: str) -> None:
        await self.client.delete(resources.WORKSPACES, name, namespace=self.namespace)

    async def define(self, *kinds: Resource) -> None:
        """Let the cluster serve these kinds."""
        for kind in kinds:
            document = yaml.safe_load(DEFINITIONS[kind].read_text())
            await self.client.apply(resources.CRDS, document, manager="tests")

            await until(partial(is_served, self.client, kind), f"{kind} is served")


async def is_served(client: Client, kind: Resource) -> bool:
    """Whether the server knows this kind."""
    try:
        await client.list(kind)
    except NotFound:
        return False
    return True


def condition(workspace: Object, kind: str) -> Object | None:
    """Return one condition of a Workspace."""
    told = (workspace.get("status") or {}).get("conditions") or []
    return next((one for one in told if one["type"] == kind), None)


@contextlib.asynccontextmanager
async def staged(
    kubeconfig: Path, namespace: str, *, fleet: Fleet | None = None, script: Script | None = None,
    play: bool = True, seconds: float = 110,
) -> AsyncIterator[Stage]:  # fmt: skip
    """Set the stage, and clear it whatever happened."""
    client = await Client.connect(kubeconfig, user_agent="berth-tests")
    stage = Stage(client, kubeconfig, namespace, fleet or specs.fleet_of(), script or Script())
    playing = None
    try:
        with contextlib.suppress(AlreadyExists):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            await client.create(resources.NAMESPACES, body)
        await stage.define(*DEFINITIONS)
        playing = asyncio.create_task(stage.simulator.run()) if play else None
        async with asyncio.timeout(seconds):
            yield stage
    finally:
        for replica in stage.replicas:
            await replica.stop()
        if playing is not None:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        await _clear(client)
        await client.close()


def play(kubeconfig: Path, scene: Callable[[Stage], Awaitable[None]], **options: Any) -> None:
    """Play one scene on a stage of its own."""

    async def run() -> None:
        async with staged(kubeconfig, NAMESPACE, **options) as stage:
            await scene(stage)

    asyncio.run(run())


async def _clear(client: Client) -> None:
    """Take everything away that a test made, finalizers included."""
    parts = (resources.PODS, resources.DEPLOYMENTS, resources.STATEFUL_SETS, resources.SERVICES)
    for resource in (resources.WORKSPACES, *CLAIMS, resources.NODE_POOLS, resources.NODES, *parts):
        try:
            found = (await client.list(resource)).items
        except NotFound:
            continue
        for one in found:
            meta = one["metadata"]
            if resource is resources.SERVICES and meta["name"] == "kubernetes":
                continue
            where = meta.get("namespace")
            with contextlib.suppress(KubeError):
                if meta.get("finalizers"):
                    await client.patch(
                        resource, meta["name"], {"metadata": {"finalizers": None}}, namespace=where
                    )
                await client._send(
                    "DELETE", resource.path(where, meta["name"]), body={"gracePeriodSeconds": 0}
                )


def _resource(document: Object) -> Resource:
    for resource in vars(resources).values():
        if isinstance(resource, resources.Resource) and resource.kind == document["kind"]:
            return replace(resource, version=document["apiVersion"].rpartition("/")[2])
    raise LookupError(document["kind"])
