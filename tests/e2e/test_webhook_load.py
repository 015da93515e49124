"""Admissions without an end, while everything that may change does: none fails, none is wrong.

The authority is exchanged twice, its Secret is deleted once, and both replicas are replaced in turn, the
leader among them. BERTH_TEST_ADMISSIONS says how many are asked for at least; with BERTH_REPORT_DIR the
figures are written there.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests import reports
from tests.e2e.balancer import Balancer
from tests.e2e.clients import CLIENTS, Clients
from tests.e2e.webhooks import HOME, NAME, SECRET, World, behind_a_service, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.clients import Asked
    from tests.e2e.conftest import Kubectl

ADMISSIONS = int(os.environ.get("BERTH_TEST_ADMISSIONS", "300"))
PAUSE_SECONDS = 0.1 if ADMISSIONS < 1000 else 0.0
"""Between two of one client: a short run is to leave the machine to others."""


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


def _reached(asked: Asked, count: int) -> bool:
    return len(asked.seconds) >= count


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
    with Clients(world, PAUSE_SECONDS) as asked:
        for index, (name, change) in enumerate(STEPS):
            until(partial(_reached, asked, ADMISSIONS * index // len(STEPS)), 60 + ADMISSIONS / 20, world)
            before, start = len(asked.seconds), time.monotonic()
            change(world)
            authorities.add(world.secret()["ca.crt"])
            took = round(time.monotonic() - start, 1)
            told.append({"what": name, "seconds": took, "admissions": len(asked.seconds) - before})
        until(partial(_reached, asked, ADMISSIONS), 60 + ADMISSIONS / 20, world)
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
