"""Admissions without an end, while everything that may change does: none fails, none is wrong.

The authority is exchanged twice, its Secret is deleted once, and both replicas are replaced in turn, the
leader among them. BERTH_TEST_ADMISSIONS says how many are asked for at least; with BERTH_REPORT_DIR the
figures are written there.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import ssl
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import reports
from tests.e2e.balancer import Balancer
from tests.e2e.webhooks import HOME, NAME, SECRET, WORKSPACE, World, behind_a_service, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

ADMISSIONS = int(os.environ.get("BERTH_TEST_ADMISSIONS", "300"))
CLIENTS = 8
PAUSE_SECONDS = 0.1 if ADMISSIONS < 1000 else 0.0
"""Between two of one client: a short run is to leave the machine to others."""
GOOD = {**WORKSPACE, "metadata": {"name": "good"}}
BAD: dict[str, Any] = {
    **WORKSPACE,
    "metadata": {"name": "bad"},
    "inference": {"preset": {"name": "falcon-7c"}},
}


@dataclass
class Asked:
    """What came of the admissions."""

    seconds: list[float] = field(default_factory=list)
    allowed: int = 0
    refused: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)
    """What the API server said, and when by the monotonic clock it had been asked."""
    wrong: list[str] = field(default_factory=list)

    def note(self, good: bool, status: int, text: str, seconds: float) -> None:
        self.seconds.append(seconds)
        if good and status == 201:
            self.allowed += 1
        elif not good and status == 422 and "falcon-7c" in text:
            self.refused += 1
        elif status in (201, 422):
            self.wrong.append(f"{status}: {text[:300]}")
        else:
            self.failed.append((time.monotonic() - seconds, f"{status}: {text[:300]}"))


class Clients:
    """Ask until told to stop, in a thread of their own; each keeps its connection."""

    def __init__(self, world: World) -> None:
        config = json.loads(world.cluster.kubeconfig.read_text())
        place = config["clusters"][0]["cluster"]
        trusted = ssl.create_default_context(
            cadata=base64.b64decode(place["certificate-authority-data"]).decode()
        )
        trusted.check_hostname = False
        self._server, self._trusted = place["server"], trusted
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._path = f"/apis/kaito.sh/v1beta1/namespaces/{world.namespace}/workspaces?dryRun=All"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="clients")
        self.asked = Asked()

    def __enter__(self) -> Asked:
        self._thread.start()
        return self.asked

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(CLIENTS)))

    async def _one(self, number: int) -> None:
        turn = number
        async with httpx.AsyncClient(
            base_url=self._server, headers=self._headers, verify=self._trusted, timeout=30
        ) as client:
            while not self._ended.is_set():
                good = turn % 3 != 0
                turn += 1
                began = time.perf_counter()
                try:
                    answer = await client.post(self._path, json=GOOD if good else BAD)
                    status, text = answer.status_code, answer.text
                except httpx.HTTPError as error:
                    status, text = 0, repr(error)
                self.asked.note(good, status, text, time.perf_counter() - began)
                await asyncio.sleep(PAUSE_SECONDS)


@pytest.fixture
def world(cluster: Kubectl, namespace: str, tmp_path: Path) -> Iterator[World]:
    """Two replicas that a Service leads to."""
    with Balancer() as balancer, behind_a_service(cluster, namespace, tmp_path, balancer) as found:
        found.start("one")
        found.start("two")
        until(lambda: balancer.ready == {"one", "two"}, 60, found)
        until(lambda: found.submit()[0] == 0, 20, found)
        yield found


def exchange(world: World) -> None:
    done = world.rotate()
    assert done.returncode == 0, done.stderr


def lose_the_secret(world: World) -> None:
    before = world.secret()["ca.crt"]
    world.cluster("delete", "secret", SECRET, "-n", HOME)
    until(lambda: world.secret().get("ca.crt", "").count("BEGIN") == 1, 60, world)
    assert world.secret()["ca.crt"] != before


def replace_both(world: World) -> None:
    """As a rollout does with `maxUnavailable: 0`: the new one is ready before the old one is told to end."""
    balancer = world.balancer
    assert balancer is not None
    for old in ("one", "two"):
        new = f"{old}-again"
        world.start(new)
        until(partial(_is_ready, balancer, new), 60, world)
        leaving = world.replicas[old]
        leaving.process.send_signal(signal.SIGTERM)
        assert leaving.process.wait(60) == 0, leaving.log.read_text()[-3000:]
        balancer.remove(old)


def _is_ready(balancer: Balancer, name: str) -> bool:
    return name in balancer.ready


STEPS: tuple[tuple[str, Callable[[World], None]], ...] = (
    ("exchange", exchange),
    ("the Secret is deleted", lose_the_secret),
    ("both replicas are replaced", replace_both),
    ("exchange again", exchange),
)


@pytest.mark.timeout(120 + ADMISSIONS // 10)
def test_no_admission_fails_and_none_is_wrong_whatever_changes(world: World) -> None:
    authorities = {world.secret()["ca.crt"]}
    told: list[dict[str, Any]] = []
    began = time.monotonic()
    with Clients(world) as asked:
        for name, change in STEPS:
            before, start = len(asked.seconds), time.monotonic()
            change(world)
            authorities.add(world.secret()["ca.crt"])
            took = round(time.monotonic() - start, 1)
            told.append({"what": name, "seconds": took, "admissions": len(asked.seconds) - before})
        until(lambda: len(asked.seconds) >= ADMISSIONS, 60 + ADMISSIONS / 20, world)
    assert world.balancer is not None
    seconds = time.monotonic() - began
    reports.write(
        "admissions",
        {
            "admissions": len(asked.seconds),
            "allowed": asked.allowed,
            "refused_as_they_should": asked.refused,
            "failed": len(asked.failed),
            "wrong": len(asked.wrong),
            "clients": CLIENTS,
            "seconds": round(seconds, 1),
            "milliseconds": reports.milliseconds(asked.seconds),
            "authorities": len(authorities),
            "connections_of_the_api_server": dict(world.balancer.opened),
            "connections_without_a_ready_replica": world.balancer.refused,
            "changes": told,
        },
    )
    assert (asked.failed, asked.wrong) == ([], [])
    assert len(asked.seconds) == asked.allowed + asked.refused >= ADMISSIONS
    assert len(authorities) == 4
    assert all(change["admissions"] > 0 for change in told)
    assert set(world.balancer.opened) == {"one", "two", "one-again", "two-again"}


KILL_NOTICED_SECONDS = 1.0
"""For probes to miss a replica, as long as it takes many clusters at best; requests may fail until then."""


@pytest.mark.parametrize("step", ["Publish", "NewLeaf"])
def test_a_leader_that_is_killed_in_an_exchange_leaves_nothing_half_done(world: World, step: str) -> None:
    before = world.secret()
    name, leader = next((name, one) for name, one in world.replicas.items() if one.leading)
    (rest,) = [one for one in world.replicas.values() if one is not leader]
    known = len(leader.steps())
    with Clients(world) as asked, world.rotating() as rotating:
        until(lambda: step in leader.steps()[known:], 40, world)
        leader.process.kill()
        killed = time.monotonic()
        assert world.balancer is not None
        leader.process.wait()
        world.start(f"{name}-again")
        until(lambda: rest.leading or world.replicas[f"{name}-again"].leading, 30, world)
        assert rotating.wait(60) == 0
        until(lambda: world.bundles() == {world.secret()["ca.crt"]}, 20, world)
        until(lambda: rest.ready and world.replicas[f"{name}-again"].ready, 20, world)
        served = len(asked.seconds)
        until(lambda: len(asked.seconds) > served + 20, 20, world)
    after = world.secret()
    assert after["ca.crt"] != before["ca.crt"]
    assert after["tls.crt"] != before["tls.crt"]
    assert after["ca.crt"].count("BEGIN") == 1
    assert asked.wrong == []
    assert [
        text for when, text in asked.failed if when > killed + KILL_NOTICED_SECONDS or when < killed - 1
    ] == []
    leases = {one["metadata"]["name"] for one in world.cluster.get("leases", "-n", HOME)["items"]}
    assert f"{NAME}-replica-{name}-again" in leases
