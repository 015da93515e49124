"""One run through a storm: people, clouds, networks and processes do what they do, and then it calms down.

The seed decides every step and the weather of every sort of request. How they interleave is up to the
machine, as in life; what must hold, holds in any order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from berth.labels import ATTEMPT
from kube import resources
from kube.errors import ApiError, NotFound
from tests.watcher.audit import Audit, nodes_of, owner
from tests.watcher.faults import Proxy, Weather
from tests.watcher.simulator import CLAIMS, instance_type, until
from tests.watcher.specs import A100, T4, planned
from tests.watcher.stage import NAMESPACE, Stage, condition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.watcher.stage import Replica

NAMES = ("a", "b", "c", "d")
CONSTANT = ("a", "b")
"""Their specs never change while they live, so the audit can be strict about them."""
CAPACITY = ("InsufficientCapacity", "all requested instance types were unavailable during launch")
LEASE, OTHER_LEASE = "watcher", "watcher-of-its-own"
STEP_S = 0.06


class Storm:
    """A run of one seed."""

    def __init__(self, stage: Stage, folder: Path, seed: int) -> None:
        self.stage = stage
        self.folder = folder
        self.dice = random.Random(f"storm {seed}")
        self.seed = seed
        self.weather = Weather(seed)
        self.proxy = Proxy(stage.kubeconfig, self.weather)
        self.audit = Audit(stage.client)
        self.proxy.on_write = self.audit.on_write
        self.wanted: dict[str, tuple[int, str]] = {}
        """What git has: count and instance type by name."""
        self.done: Counter[str] = Counter()
        self.kubeconfig = folder

    async def run(self, steps: int) -> None:
        """Storm, calm down, and hold what is left against what git has."""
        async with self.proxy.running(self.folder) as self.kubeconfig:
            auditing = asyncio.create_task(self.audit.run())
            try:
                await self._replica()
                for _ in range(steps):
                    await self._step()
                    await asyncio.sleep(self.dice.uniform(0, 2 * STEP_S))
                await self._calm()
                try:
                    await self._converge()
                    await self._clean()
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{await self._story()}") from None
            finally:
                for replica in [*self.stage.replicas]:
                    await self._end(replica, crash=False)
                auditing.cancel()
                await asyncio.gather(auditing, return_exceptions=True)
        assert not self.audit.wrong, self.audit.wrong

    async def _step(self) -> None:
        moves: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (14, self._commit), (4, self._remove), (6, self._storm), (4, self._sun), (8, self._lose_node),
            (3, self._refuse), (7, self._allow), (2, self._restart), (2, self._crash), (1, self._second),
            (2, self._split),
            (8, self._time), (1, self._silence), (2, self._deaf),
        ]  # fmt: skip
        move = self.dice.choices([move for _, move in moves], [weight for weight, _ in moves])[0]
        self.done[move.__name__.strip("_")] += 1
        try:
            await move()
        except ApiError as error:
            self.done[f"refused: {error.reason}"] += 1

    async def _commit(self) -> None:
        """Git brings a Workspace, or another spec of one that may change."""
        name = self.dice.choice(NAMES)
        if name in CONSTANT and name in self.wanted:
            return
        self.wanted[name] = (self.dice.randint(1, 3), self.dice.choice([A100, T4]))
        await self._apply(name)

    async def _apply(self, name: str) -> None:
        count, kind = self.wanted[name]
        try:
            there = await self.stage.workspace(name)
        except NotFound:
            there = {"metadata": {}}
        if "deletionTimestamp" in there["metadata"]:
            del self.wanted[name]  # its predecessor is not gone yet
            return
        fallbacks = (T4,) if kind == A100 else ()
        await self.stage.apply(planned(name, NAMESPACE, count=count, kind=kind, fallbacks=fallbacks))

    async def _remove(self) -> None:
        if self.wanted:
            name = self.dice.choice(sorted(self.wanted))
            del self.wanted[name]
            await self.stage.delete(name)

    async def _storm(self) -> None:
        self.weather.probability = self.dice.choice([0.1, 0.3, 0.6])

    async def _sun(self) -> None:
        self.weather.probability = 0.0

    async def _lose_node(self) -> None:
        """The cloud takes a node: its claim is deleted as Karpenter does it."""
        claims = await self.stage.claims()
        if claims:
            claim = claims[self.dice.randrange(len(claims))]
            await self.stage.client.delete(
                resources.NODE_CLAIMS, claim["metadata"]["name"], uid=claim["metadata"]["uid"]
            )

    async def _refuse(self) -> None:
        self.stage.script.refused[self.dice.choice([A100, T4])] = CAPACITY

    async def _allow(self) -> None:
        self.stage.script.refused.clear()
        self.stage.script.silent = False

    async def _silence(self) -> None:
        self.stage.script.silent = True

    async def _deaf(self) -> None:
        """Every connection is cut at once."""
        self.proxy.cut()

    async def _time(self) -> None:
        """The replicas' clocks jump; back too, as after a bad time server."""
        self.stage.clock.jump(self.dice.choice([5, 60, 600, 4000, -30]))
        for replica in self.stage.replicas:
            replica.wake()

    async def _restart(self) -> None:
        await self._replace(crash=False)

    async def _crash(self) -> None:
        await self._replace(crash=True)

    async def _second(self) -> None:
        """A second replica comes, or goes."""
        ours = [one for one in self.stage.replicas if one.watcher.leader._name == LEASE]
        if len(ours) > 1:
            await self._end(ours[0], crash=self.dice.random() < 0.5)
        else:
            await self._replica()

    async def _split(self) -> None:
        """Two lead at once, as if the lease were of no use; or the second leader goes."""
        others = [one for one in self.stage.replicas if one.watcher.leader._name != LEASE]
        if others:
            await self._end(others[0], crash=self.dice.random() < 0.5)
        else:
            await self._replica(OTHER_LEASE)

    async def _replace(self, *, crash: bool) -> None:
        replica = self.dice.choice(self.stage.replicas)
        await self._end(replica, crash=crash)
        await self._replica(replica.watcher.leader._name)

    async def _end(self, replica: Replica, *, crash: bool) -> None:
        self.stage.replicas.remove(replica)
        await (replica.crash() if crash else replica.stop())

    async def _replica(self, lease: str = LEASE) -> None:
        self.done["replicas"] += 1
        identity = f"replica-{self.seed}-{self.done['replicas']}"
        await self.stage.watcher(self.kubeconfig, name=lease, identity=identity, timeout_s=2, lease_s=1.0)

    async def _calm(self) -> None:
        self.weather.probability = 0.0
        self.stage.script.refused.clear()
        self.stage.script.silent = False
        for replica in [one for one in self.stage.replicas if one.watcher.leader._name != LEASE]:
            await self._end(replica, crash=False)
        if not self.stage.replicas:
            await self._replica()

    async def _converge(self) -> None:
        """Every Workspace of git gets exactly its nodes, and nothing else has any."""
        await until(lambda: self._settled(), f"seed {self.seed}: everything is as git has it", 60)

    async def _settled(self) -> bool:
        self.stage.clock.jump(300)
        for replica in self.stage.replicas:
            replica.wake()
        await asyncio.sleep(0.2)
        there = {one["metadata"]["name"]: one for one in await self.stage.simulator.all(resources.WORKSPACES)}
        claims = [one for kind in CLAIMS for one in await self.stage.simulator.all(kind)]
        if set(there) != set(self.wanted):
            return False
        by_uid = Counter(map(owner, claims))
        for name, (count, kind) in self.wanted.items():
            workspace = there[name]
            assert nodes_of(workspace)["count"] == count
            told: Any = condition(workspace, "NodeClaimReady")
            if told is None or told["status"] != "True" or by_uid[workspace["metadata"]["uid"]] != count:
                return False
            own = [one for one in claims if owner(one) == workspace["metadata"]["uid"]]
            if not {instance_type(one) for one in own} <= {kind, T4}:
                return False
        return sum(by_uid.values()) == sum(count for count, _ in self.wanted.values())

    async def _story(self) -> str:
        """What is there, for a failure's message."""
        lines = [f"git: {self.wanted}"]
        for kind in (resources.WORKSPACES, *CLAIMS, resources.NODES):
            for one in await self.stage.simulator.all(kind):
                meta = one["metadata"]
                told = {each["type"]: each["status"] for each in one.get("status", {}).get("conditions", [])}
                kept = (
                    meta.get("finalizers"),
                    meta.get("deletionTimestamp"),
                    meta.get("annotations", {}).get(ATTEMPT),
                )
                lines.append(f"{kind.kind} {meta['name']} {kept} {told} {one.get('status', {}).get('nodes')}")
        for replica in self.stage.replicas:
            term = replica.watcher.term
            queue = (len(term.queue), term.queue.working, term.queue._due) if term is not None else None
            lines.append(
                f"{replica.watcher.leader._name}: leads {replica.watcher.leader.leading}, queue {queue}"
            )
        return "\n".join(lines)

    async def _clean(self) -> None:
        """Git takes everything back, and nothing stays."""
        for name in sorted(self.wanted):
            await self.stage.delete(name)

        await until(self._nothing, f"seed {self.seed}: nothing is left", 60)

    async def _nothing(self) -> bool:
        kinds = (resources.WORKSPACES, *CLAIMS, resources.NODES)
        return not [one for kind in kinds for one in await self.stage.simulator.all(kind)]
