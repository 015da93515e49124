"""Plays everybody but the watcher on a real API server: Karpenter, kubelets, scheduler, workload controllers.

Claims get their finalizer, are launched, become nodes and are removed with them, step by step as the real
controllers do it; pods of workloads start on nodes that fit and have GPUs left. A `Script` says what fails.
Level-triggered like its models: it reads what is there and moves each object one step on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from berth import labels
from kube import resources
from kube.errors import AlreadyExists, ApiError, Conflict, NotFound, Unreachable
from tests.watcher import playing_pods
from tests.watcher.playing_pods import GPUS, conditions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kube.client import Client
    from kube.resources import Resource

    Object = dict[str, Any]

TERMINATION = "karpenter.sh/termination"
CLAIMS = (resources.NODE_CLAIMS, resources.MACHINES)


@dataclass
class Script:
    """What goes wrong, and how long things take."""

    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By instance type: reason and message with which a launch fails."""
    deletes_refused: bool = True
    """Whether a refused claim is deleted soon, as Karpenter does where capacity is out."""
    silent: bool = False
    """Nobody provisions at all."""
    gpus: dict[str, int] = field(default_factory=dict)
    """By node: GPUs that it shows; else those of its instance type."""
    pods_fail: dict[str, Any] | None = None
    """Status of a container that does not start."""
    finalizer: bool = True
    step_s: float = 0.02
    """Between two rounds; each round moves each object one step."""


class Simulator:
    """The cluster's other controllers."""

    def __init__(self, client: Client, script: Script | None = None, namespace: str | None = None) -> None:
        self.client = client
        self.script = script or Script()
        self.namespace = namespace
        """Only pods of workloads in there are played."""
        self.launched: list[tuple[str, str]] = []
        """Name and instance type of each claim that became a node: what the cloud would bill."""
        self.kept: set[str] = set()
        """Claims that somebody else looks after: they are left alone."""

    async def run(self) -> None:
        """Play until cancelled; whatever changes under our hands is looked at again."""
        while True:
            with contextlib.suppress(Conflict, NotFound, AlreadyExists, Unreachable):
                await self.round()
            await asyncio.sleep(self.script.step_s)

    async def round(self) -> None:
        """Move everything one step on."""
        nodes = {one["metadata"]["name"]: one for one in await self.all(resources.NODES)}
        for resource in CLAIMS:
            for claim in await self.all(resource):
                if claim["metadata"]["name"] not in self.kept:
                    with contextlib.suppress(Conflict, NotFound, AlreadyExists):
                        await self._claim(resource, claim, nodes)
        await self._pools()
        await playing_pods.round(self.client, self.script, self.namespace)

    async def all(self, resource: Resource) -> list[Object]:
        """Return every object of a kind; none where the kind is not served."""
        try:
            return (await self.client.list(resource)).items
        except NotFound:
            return []

    async def _claim(self, resource: Resource, claim: Object, nodes: dict[str, Object]) -> None:
        meta, status = claim["metadata"], claim.get("status") or {}
        node = f"node-{meta['name']}"
        if "deletionTimestamp" in meta:
            if node in nodes:
                await self._forget(resources.NODES, nodes[node])
            elif TERMINATION in (meta.get("finalizers") or []):
                kept = [one for one in meta["finalizers"] if one != TERMINATION]
                await self._patch(resource, claim, {"metadata": {"finalizers": kept}})
            return
        if self.script.silent:
            return
        if self.script.finalizer and TERMINATION not in (meta.get("finalizers") or []):
            wanted = [*(meta.get("finalizers") or []), TERMINATION]
            await self._patch(resource, claim, {"metadata": {"finalizers": wanted}})
            return
        prefix = "Machine" if resource is resources.MACHINES else ""
        reached = {
            one["type"].removeprefix("Machine"): one["status"] for one in status.get("conditions") or []
        }
        kind = instance_type(claim)
        if reached.get("Launched") != "True":
            await self._launch(resource, claim, prefix, kind, reached)
        elif node not in nodes and reached.get("Ready") != "True":
            await self.client.create(resources.NODES, self._node(node, claim, kind))
            await self.show_node(node, ready=True, gpus=self.script.gpus.get(node, GPUS.get(kind, 1)))
        elif reached.get("Ready") != "True":
            told = conditions({f"{prefix}{one}": "True" for one in ("Launched", "Registered", "Initialized")})
            named = {} if prefix else {"nodeName": node}
            await self._status(
                resource, claim, {**named, "conditions": [*told, *conditions({"Ready": "True"})]}
            )

    async def _launch(
        self, resource: Resource, claim: Object, prefix: str, kind: str, reached: dict[str, str]
    ) -> None:
        refusal = self.script.refused.get(kind)
        if refusal is None:
            self.launched.append((claim["metadata"]["name"], kind))
            told = conditions({f"{prefix}Launched": "True"})
            provider = {"providerID": f"sim://{claim['metadata']['name']}", "capacity": {"cpu": "4"}}
            await self._status(resource, claim, {**provider, "conditions": told})
        elif not reached:
            told = conditions({f"{prefix}Launched": "False", "Ready": "False"}, *refusal)
            await self._status(resource, claim, {"conditions": told})
        elif self.script.deletes_refused:
            await self.client.delete(resource, claim["metadata"]["name"], uid=claim["metadata"]["uid"])

    def _node(self, name: str, claim: Object, kind: str) -> Object:
        own = dict(claim["metadata"].get("labels") or {})
        own.update({labels.INSTANCE_TYPE: kind, labels.HOSTNAME: name, "kubernetes.io/os": "linux"})
        return {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": own},
            "spec": {
                "providerID": f"sim://{claim['metadata']['name']}",
                "taints": (claim.get("spec") or {}).get("taints") or [],
            },
        }  # fmt: skip

    async def show_node(self, name: str, *, ready: bool, gpus: int) -> None:
        """Let a node's kubelet say how it is."""
        amounts = {"cpu": "24", "memory": "220Gi", "ephemeral-storage": "1Ti", labels.GPU_RESOURCE: str(gpus)}
        beat = {"lastHeartbeatTime": now()}
        told = [{**one, **beat} for one in conditions({"Ready": "True" if ready else "Unknown"})]
        status = {"capacity": amounts, "allocatable": amounts, "conditions": told}
        await self.client.patch(resources.NODES, name, {"status": status}, subresource="status")

    async def add_node(self, name: str, kind: str, gpus: int, **own: str) -> None:
        """Bring a node that was there before."""
        tags = {labels.INSTANCE_TYPE: kind, labels.HOSTNAME: name, **own}
        body: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": tags}}
        await self.client.create(resources.NODES, body)
        await self.show_node(name, ready=True, gpus=gpus)

    async def _pools(self) -> None:
        """Make a pool's claims as soon as it is there, as if its pods were pending."""
        pools = await self.all(resources.NODE_POOLS)
        claims = await self.all(resources.NODE_CLAIMS) if pools else []
        for pool in pools:
            name, template = pool["metadata"]["name"], pool["spec"]["template"]
            mine = [
                one for one in claims if (one["metadata"].get("labels") or {}).get(labels.NODE_POOL) == name
            ]
            limits = pool["spec"].get("limits") or {}
            kind = instance_type(template)
            wanted = int(limits.get("nodes") or int(limits.get(labels.GPU_RESOURCE, 0)) // GPUS.get(kind, 1))
            if len(mine) < wanted:
                own = {**template["metadata"]["labels"], labels.NODE_POOL: name}
                spec = {key: value for key, value in template["spec"].items() if key != "minValues"}
                await self.client.create(resources.NODE_CLAIMS, {
                    "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
                    "metadata": {"name": f"{name[:40]}-{len(mine)}", "labels": own}, "spec": spec,
                })  # fmt: skip
            told = conditions({"Ready": "True"})
            if not (pool.get("status") or {}).get("conditions"):
                await self._status(resources.NODE_POOLS, pool, {"conditions": told, "nodes": len(mine)})

    async def _forget(self, resource: Resource, thing: Object) -> None:
        await self.client.delete(resource, thing["metadata"]["name"], uid=thing["metadata"]["uid"])

    async def _status(self, resource: Resource, thing: Object, status: Object) -> None:
        await self._patch(resource, thing, {"status": status}, "status")

    async def _patch(
        self, resource: Resource, thing: Object, patch: Object, where: str | None = None
    ) -> None:
        meta = thing["metadata"]
        await self.client.patch(
            resource, meta["name"], patch, namespace=meta.get("namespace"), subresource=where
        )


def instance_type(claim: Object) -> str:
    """Return what a claim or a pool's template asks for."""
    for one in (claim.get("spec") or {}).get("requirements") or []:
        if one["key"] == labels.INSTANCE_TYPE:
            return str(one["values"][0])
    return ""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextlib.asynccontextmanager
async def playing(simulator: Simulator) -> Any:
    """Let it play while the block runs."""
    task = asyncio.create_task(simulator.run())
    try:
        yield simulator
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Any, what: str, seconds: float = 30.0) -> Any:
    """Wait for an (async) condition, and return what it returned."""
    deadline = time.monotonic() + seconds
    found: Any = None
    while time.monotonic() < deadline:
        try:
            found = await holds()
        except ApiError as error:
            found = None
            what = f"{what} ({error})"
        if found:
            return found
        await asyncio.sleep(0.03)
    raise AssertionError(f"not within {seconds:.0f} s: {what}; at last {found!r}")


def names(things: Iterable[Object]) -> list[str]:
    return sorted(one["metadata"]["name"] for one in things)
