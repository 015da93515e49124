"""Two replicas of the webhook at a real API server: certificates from nothing, an exchange, an end.

The configurations name the replicas by address, one each, so that the API server really calls both. The
replicas have the rights that the platform gives them, and no others.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clients import Clients
from tests.e2e.conftest import free_ports
from tests.e2e.webhooks import HOME, NAME, SECRET, World, cleaned, configure, limited, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

EXCHANGE = ["NewAuthority", "Publish", "NewLeaf", "Drop", "Publish"]


@pytest.fixture
def world(cluster: Kubectl, namespace: str, tmp_path: Path) -> Iterator[World]:
    one, other, *plain = free_ports(4)
    found = World(cluster, namespace, tmp_path, limited(cluster, tmp_path))
    with cleaned(found):
        configure(found, {"validate": one, "mutate": other})
        found.start("one", one, plain[0])
        found.start("two", other, plain[1])
        yield found


def test_certificates_appear_are_exchanged_without_a_refusal_and_outlive_their_leader(world: World) -> None:
    until(lambda: all(replica.ready for replica in world.replicas.values()), 60, world)
    until(lambda: world.bundles() == {world.secret()["ca.crt"]}, 20, world)
    before = world.secret()
    assert before["tls.crt"].startswith("-----BEGIN CERTIFICATE-----")
    assert sum(replica.leading for replica in world.replicas.values()) == 1
    until(lambda: world.submit()[0] == 0, 10, world)
    code, refusal = world.submit(preset={"name": "no-such-model"})
    assert code != 0
    assert "no-such-model" in refusal

    leader = next(replica for replica in world.replicas.values() if replica.leading)
    known = len(leader.steps())
    with Clients(world) as asked:
        done = world.rotate()
        until(lambda: world.bundles() == {world.secret()["ca.crt"]}, 20, world)
    assert done.returncode == 0, done.stderr
    after = world.secret()
    assert after["ca.crt"] != before["ca.crt"]
    assert after["tls.crt"] != before["tls.crt"]
    assert after["ca.crt"].count("BEGIN") == 1
    assert leader.steps()[known:] == EXCHANGE
    assert asked.allowed > 5
    assert (asked.failed, asked.wrong) == ([], [])

    # The leader ends: it hands over at once, and takes its report back.
    leader.process.send_signal(signal.SIGTERM)
    assert leader.process.wait(20) == 0
    (rest,) = [replica for replica in world.replicas.values() if replica is not leader]
    until(lambda: rest.leading, 20, world)
    leases = world.cluster.get("leases", "-n", HOME)["items"]
    names = {"one", "two"} - {name for name, replica in world.replicas.items() if replica is leader}
    assert {lease["metadata"]["name"] for lease in leases} == {
        NAME,
        *(f"{NAME}-replica-{name}" for name in names),
    }

    # A Secret that somebody deletes comes back from memory, and what was shown stays trusted meanwhile.
    world.cluster("delete", "secret", SECRET, "-n", HOME)
    until(lambda: world.secret().get("ca.crt", "").count("BEGIN") == 1, 40, world)
    assert world.secret()["ca.crt"] != after["ca.crt"]
    assert rest.ready
