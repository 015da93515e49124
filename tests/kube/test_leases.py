"""Two never lead at once, whatever the network does; and somebody leads again when it heals."""

from __future__ import annotations

import asyncio
import copy
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from kube import errors
from kube.leases import Leader

if TYPE_CHECKING:
    from kube.client import Client

DURATION_S, RENEW_S, RETRY_S = 1.0, 0.6, 0.1
FAULTS_S = 6.0


@dataclass
class Shelf:
    """The one Lease, with the API server's optimistic lock."""

    lease: dict[str, Any] | None = None
    version: int = 0

    def write(self, body: dict[str, Any], expected: str | None) -> None:
        if expected is None and self.lease is not None:
            raise errors.AlreadyExists(409, "AlreadyExists")
        if expected is not None and (self.lease is None or expected != str(self.version)):
            raise errors.Conflict(409, "Conflict")
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(self.version)


@dataclass
class Flaky:
    """A client's view of the shelf through a bad network: loses requests, answers and time."""

    shelf: Shelf
    dice: random.Random
    bad: bool = True
    cut_until: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    async def get(self, *_: Any) -> dict[str, Any]:
        await self._way("request")
        if self.shelf.lease is None:
            raise errors.NotFound(404, "NotFound")
        found = copy.deepcopy(self.shelf.lease)
        await self._way("answer")
        return found

    async def replace(self, _: Any, body: dict[str, Any]) -> dict[str, Any]:
        await self._way("request")
        self.shelf.write(body, body["metadata"]["resourceVersion"])
        await self._way("answer")
        return body

    async def create(self, _: Any, body: dict[str, Any]) -> dict[str, Any]:
        await self._way("request")
        self.shelf.write(body, None)
        await self._way("answer")
        return body

    async def _way(self, what: str) -> None:
        now = asyncio.get_running_loop().time()
        if not self.bad:
            await asyncio.sleep(0)
            return
        fate = self.dice.random()
        if fate < 0.01:
            self.cut_until = now + self.dice.uniform(0.5, 2.0)
        if now < self.cut_until or fate > 0.9:
            self.counts[what] = self.counts.get(what, 0) + 1
            await asyncio.sleep(self.dice.uniform(0, 0.3))
            raise errors.Unreachable(f"the {what} was lost")
        await asyncio.sleep(self.dice.choice([0, 0.001, 0.01, 0.2]))


async def compete(seed: int) -> None:
    shelf = Shelf()
    inside: list[str] = []
    overlaps: list[tuple[str, ...]] = []
    fenced: list[str] = []
    terms = 0
    networks = [Flaky(shelf, random.Random(f"{seed}-{n}")) for n in range(3)]
    leaders: list[Leader] = []

    def job(n: int) -> Any:
        async def work() -> None:
            nonlocal terms
            terms += 1
            name = f"w{n}"
            inside.append(name)
            try:
                while True:
                    if len(inside) > 1:
                        overlaps.append(tuple(inside))
                    others = [o for o, leader in enumerate(leaders) if o != n and leader.leading]
                    if leaders[n].leading and others:
                        fenced.append(f"{n} and {others}")
                    await asyncio.sleep(0.005)
            finally:
                inside.remove(name)

        return work

    for n, network in enumerate(networks):
        leader = Leader(
            cast("Client", network), namespace="n", name="l", identity=f"w{n}",
            duration_s=DURATION_S, renew_s=RENEW_S, retry_s=RETRY_S,
        )  # fmt: skip
        leaders.append(leader)
    running = [asyncio.create_task(leader.run(job(n))) for n, leader in enumerate(leaders)]
    await asyncio.sleep(FAULTS_S)
    for network in networks:
        network.bad = False
    async with asyncio.timeout(10):
        while not inside:
            await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert overlaps == [], f"seed {seed}"
    assert fenced == [], f"seed {seed}"
    assert sum(sum(network.counts.values()) for network in networks) > 10, "the network was too good"
    assert terms >= 1


def test_two_never_lead_at_once_on_a_bad_network() -> None:
    """Thirty clusters of three side by side; the seed in a failure's text plays it again."""

    async def run() -> None:
        await asyncio.gather(*(compete(seed) for seed in range(30)))

    asyncio.run(run())


def test_a_leader_that_hears_nothing_stops_before_its_lease_ends() -> None:
    async def run() -> None:
        shelf = Shelf()
        network = Flaky(shelf, random.Random(1), bad=False)
        loop = asyncio.get_running_loop()
        ended: list[float] = []

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(loop.time())

        leader = Leader(
            cast("Client", network), namespace="n", name="l", identity="w",
            duration_s=DURATION_S, renew_s=RENEW_S, retry_s=RETRY_S,
        )  # fmt: skip
        running = asyncio.create_task(leader.run(work))
        await asyncio.sleep(0.3)
        leader.check()
        written, network.bad, network.cut_until = shelf.version, True, loop.time() + 60
        began = loop.time()
        await asyncio.sleep(DURATION_S)
        assert ended
        assert ended[0] - began < DURATION_S
        assert shelf.version == written
        with pytest.raises(errors.NotLeading):
            leader.check()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def test_times_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match="retry < renew < duration"):
        Leader(cast("Client", None), namespace="n", name="l", identity="w", duration_s=10, renew_s=10)


def test_a_bug_in_renewing_is_raised_and_not_taken_for_a_lost_lease() -> None:
    class Broken(Flaky):
        async def replace(self, _: Any, body: dict[str, Any]) -> dict[str, Any]:
            raise KeyError("spec")

    async def run() -> None:
        ended = asyncio.Event()

        async def work() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        network = Broken(Shelf(), random.Random(1), bad=False)
        leader = Leader(
            cast("Client", network), namespace="n", name="l", identity="w",
            duration_s=DURATION_S, renew_s=RENEW_S, retry_s=RETRY_S,
        )  # fmt: skip
        with pytest.raises(KeyError):
            await leader.run(work)
        assert ended.is_set()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_lease_of_any_length_leaves_room_to_renew_it() -> None:
    for duration_s in (0.5, 3, 15, 600):
        Leader(cast("Client", None), namespace="n", name="l", identity="w", duration_s=duration_s)
