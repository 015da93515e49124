"""A watcher may die at any write of a create and of a delete, and wake up beside another: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from kube import resources
from kube.errors import NotFound
from tests.e2e.conftest import ROOT, free_ports
from tests.watcher.faults import Proxy, Weather, plural
from tests.watcher.simulator import until
from tests.watcher.specs import planned
from tests.watcher.stage import NAMESPACE, Stage, play

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

# A client that is cut off while it connects leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

LEASE_S = 1.0


class Ending(Weather):
    """Lets `passing` writes through and then no other; the first that is stopped arrives, or it does not."""

    def __init__(self, passing: int, *, arrives: bool) -> None:
        super().__init__(1)
        self.left = passing
        self.arrives = arrives
        self.ended = asyncio.Event()

    def draw(self, sort: str, faults: tuple[str, ...]) -> tuple[str, random.Random]:
        fault, dice = super().draw(sort, faults)
        if sort.startswith(("GET", "WATCH")) or "leases" in sort or "events" in sort:
            return fault, dice
        self.left -= 1
        if self.left >= 0:
            return fault, dice
        first = not self.ended.is_set()
        self.ended.set()
        return ("answer lost" if self.arrives and first else "dropped"), dice


@pytest.mark.parametrize("arrives", [True, False], ids=["after the write", "before the write"])
@pytest.mark.parametrize("phase", ["create", "delete"])
def test_a_watcher_may_die_at_every_write(
    watched: Kubectl, tmp_path: Path, phase: str, arrives: bool
) -> None:
    async def life(stage: Stage, passing: int) -> bool:
        """Live through one phase with a watcher that dies; say whether it died before the end."""
        name = f"{phase}-{passing}"
        workspace = planned(name, NAMESPACE, count=2)
        await stage.apply(workspace)
        if phase == "delete":
            first = await stage.watcher(lease_s=LEASE_S)
            await stage.until_condition(name, "NodeClaimReady", status="True")
            await end(stage, first)
            await stage.delete(name)
        weather = Ending(passing, arrives=arrives)
        proxy = Proxy(stage.kubeconfig, weather)
        async with proxy.running(tmp_path) as path:
            mortal = await stage.watcher(path, lease_s=LEASE_S, timeout_s=1)
            done = asyncio.create_task(over(stage, name))
            ended = asyncio.create_task(weather.ended.wait())
            await asyncio.wait({done, ended}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.02 if weather.ended.is_set() else 0.3)
            await end(stage, mortal)
        successor = await stage.watcher(lease_s=LEASE_S)
        await done
        claims = [one for one in await stage.claims() if "deletionTimestamp" not in one["metadata"]]
        assert len(claims) == (2 if phase == "create" else 0)
        indices = sorted(one["metadata"]["annotations"][labels.INDEX] for one in claims)
        assert indices == (["0", "1"] if phase == "create" else [])
        if phase == "create":
            await stage.delete(name)
            await stage.until_gone(name)
        await stage.until_no_claims()
        await end(stage, successor)
        ended.cancel()
        return weather.ended.is_set()

    async def over(stage: Stage, name: str) -> None:
        if phase == "create":
            await stage.until_condition(name, "NodeClaimReady", status="True")
        else:
            await stage.until_gone(name)

    async def scene(stage: Stage) -> None:
        deaths = 0
        while await life(stage, deaths):
            deaths += 1
        # The finalizer, two claims and the status; two claims and the finalizer.
        assert deaths >= (4 if phase == "create" else 3)
        assert len(stage.simulator.launched) == 2 * (deaths + 1), "a node was paid for twice"

    play(watched.kubeconfig, scene)


async def end(stage: Stage, replica: Any) -> None:
    """Let it die as by a power cut, and its lease run out at once."""
    stage.replicas.remove(replica)
    await replica.crash()
    with contextlib.suppress(NotFound):  # it may never have come to lead
        await stage.client.delete(resources.LEASES, "watcher", namespace=NAMESPACE)


def test_requests_of_the_leader_are_told_by_their_sort() -> None:
    assert plural("/apis/coordination.k8s.io/v1/namespaces/models/leases/watcher") == "leases"


@pytest.fixture
def processes() -> Any:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def test_a_leader_that_was_frozen_wakes_up_beside_another_and_does_no_harm(
    watched: Kubectl, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    ports = free_ports(2)

    def start(number: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "watcher", "--kubeconfig", str(watched.kubeconfig),
            "--namespace", NAMESPACE, "--name", "frozen", "--identity", f"replica-{number}",
            "--host", "127.0.0.1", "--port", str(ports[number]),
            "--lease-seconds", "2", "--late-seconds", "2",
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        with (tmp_path / f"{number}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        processes.append(process)
        return process

    def page(number: int, name: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[number]}/{name}", timeout=2) as answer:
                return str(answer.read().decode())
        except OSError as error:
            return str(error)

    async def leads(number: int) -> bool:
        return "berth_watcher_leader 1.0" in await asyncio.to_thread(page, number, "metrics")

    async def scene(stage: Stage) -> None:
        first = start(0)
        await until(lambda: leads(0), "the first leads")
        second = start(1)
        await stage.apply(planned("phi", NAMESPACE, count=2))
        await stage.until_condition("phi", "NodeClaimReady", status="True")
        first.send_signal(signal.SIGSTOP)
        # The cluster moves on while it is frozen: a node is lost, and another Workspace comes.
        await until(lambda: leads(1), "the second leads")
        await stage.apply(planned("other", NAMESPACE))
        lost = (await stage.claims())[0]["metadata"]["name"]
        await stage.client.delete(resources.NODE_CLAIMS, lost)
        await stage.until_condition("other", "NodeClaimReady", status="True")
        first.send_signal(signal.SIGCONT)
        await stage.until_condition("phi", "NodeClaimReady", status="True")
        await asyncio.sleep(1.0)
        assert not await leads(0)
        assert await leads(1)
        assert len(await stage.claims()) == 3
        assert len(stage.simulator.launched) == 4
        # SIGTERM hands the lease back, so the other follows at once.
        began = time.monotonic()
        second.terminate()
        await until(lambda: leads(0), "the first leads again")
        assert time.monotonic() - began < 2.0
        assert await asyncio.to_thread(second.wait, 10) == 0
        for name in ("phi", "other"):
            await stage.delete(name)
            await stage.until_gone(name)
        await stage.until_no_claims()

    play(watched.kubeconfig, scene)
