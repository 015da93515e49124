"""Two replicas of the webhook at a real API server: certificates from nothing, an exchange, an end.

The configurations name the replicas by address, one each, so that the API server really calls both. The
replicas have the rights that the platform gives them, and no others.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from generator.platform import access, frame
from tests.e2e.conftest import ROOT, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

NAME, SECRET, HOME = frame.WEBHOOK, frame.CERTIFICATES, frame.NAMESPACE
KINDS = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")
EXCHANGE = ["NewAuthority", "Publish", "NewLeaf", "Drop", "Publish"]
WORKSPACE = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "small"},
    "resource": {
        "instanceType": "Standard_NC24ads_A100_v4",
        "labelSelector": {"matchLabels": {"apps": "small"}},
    },
    "inference": {"preset": {"name": "phi-4-mini-instruct"}},
}


@dataclass
class Replica:
    """One process of the webhook."""

    process: subprocess.Popen[bytes]
    port: int
    plain: int
    log: Path

    @property
    def ready(self) -> bool:
        return self.page("readyz")[0] == 200

    def page(self, name: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.plain}/{name}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def leading(self) -> bool:
        return "berth_webhook_leader 1.0" in self.page("metrics")[1]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def steps(self) -> list[str]:
        """Return what the keeper did, waiting left out."""
        told = [re.match(r"certificates: (\w+)", line["message"]) for line in self.lines()]
        return [found[1] for found in told if found and found[1] != "Wait"]


@dataclass
class World:
    """Both replicas, and everything that was asked of them."""

    cluster: Kubectl
    namespace: str
    folder: Path
    kubeconfig: Path
    replicas: dict[str, Replica] = field(default_factory=dict)

    def start(self, name: str, port: int, plain: int) -> Replica:
        log = self.folder / f"{name}.log"
        command = [*self.command("serve"), "--identity", name, "--host", "127.0.0.1"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port), "--plain-port", str(plain)],
                stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment(),
            )  # fmt: skip
        self.replicas[name] = Replica(process, port, plain, log)
        return self.replicas[name]

    def command(self, what: str) -> list[str]:
        return [
            sys.executable, "-m", "webhook", what, "--kubeconfig", str(self.kubeconfig),
            "--dns-name", "127.0.0.1", "--poll-seconds", "0.3",
            "--settle-seconds", "2", "--lease-seconds", "5", "--quiet-seconds", "0.5",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def rotate(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("rotate"),
            capture_output=True,
            text=True,
            timeout=90,
            cwd=ROOT,
            env=self.environment(),
        )

    def secret(self) -> dict[str, str]:
        found = self.cluster("get", "secret", SECRET, "-n", HOME, "-o", "json", check=False)
        if found.code:
            return {}
        return {name: base64.b64decode(value).decode() for name, value in found.json()["data"].items()}

    def bundles(self) -> set[str]:
        """Return what the configurations trust; one text where they agree."""
        entries = [entry for kind in KINDS for entry in self.cluster.get(kind, NAME)["webhooks"]]
        return {base64.b64decode(entry["clientConfig"].get("caBundle", "")).decode() for entry in entries}

    def submit(self, **inference: Any) -> tuple[int, str]:
        """Create a Workspace as a dry run on the server."""
        document = {**WORKSPACE, "inference": {**WORKSPACE["inference"], **inference}}  # type: ignore[dict-item]
        done = self.cluster(
            "create", "-n", self.namespace, "--dry-run=server", "-f", "-", "-o", "name",
            stdin=json.dumps(document), check=False,
        )  # fmt: skip
        return done.code, done.err


def until(condition: Callable[[], object], seconds: float, world: World) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = {name: replica.log.read_text()[-4000:] for name, replica in world.replicas.items()}
            pytest.fail(
                "it did not come about; " + "\n".join(f"{name}:\n{text}" for name, text in logs.items())
            )
        time.sleep(0.1)


def configuration(kind: str, path: str, port: int, namespace: str) -> dict[str, Any]:
    rule = {"apiGroups": ["kaito.sh"], "apiVersions": ["v1beta1"], "operations": ["CREATE"]}
    entry = {
        "name": "workspaces.berth.dev",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": f"https://127.0.0.1:{port}/{path}"},
        "rules": [{**rule, "resources": ["workspaces"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 5,
    }
    api = "admissionregistration.k8s.io/v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": NAME}, "webhooks": [entry]}


def limited(cluster: Kubectl, folder: Path) -> Path:
    """Return a kubeconfig with the rights of the webhook's service account."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": HOME}}
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}
    for thing in (home, account, *access.webhook(frame.Settings())):
        cluster("apply", "--server-side", "-f", "-", stdin=json.dumps(thing))
    config = json.loads(cluster.kubeconfig.read_text())
    token = cluster("create", "token", NAME, "-n", HOME).out.strip()
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    path = folder / "limited"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def world(cluster: Kubectl, namespace: str, tmp_path: Path) -> Iterator[World]:
    one, other, *plain = free_ports(4)
    found = World(cluster, namespace, tmp_path, limited(cluster, tmp_path))
    for kind, path, port in (
        ("ValidatingWebhookConfiguration", "validate", one),
        ("MutatingWebhookConfiguration", "mutate", other),
    ):
        body = json.dumps(configuration(kind, path, port, namespace))
        cluster("apply", "--server-side", "-f", "-", stdin=body)
    try:
        found.start("one", one, plain[0])
        found.start("two", other, plain[1])
        yield found
    finally:
        for replica in found.replicas.values():
            replica.process.kill()
            replica.process.wait()
        for kind in KINDS:
            cluster("delete", kind, NAME)
        cluster("delete", "secret,lease", "--all", "-n", HOME)


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

    failed, asked = [], [0]
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            code, text = world.submit()
            asked[0] += 1
            if code:
                failed.append(text)

    leader = next(replica for replica in world.replicas.values() if replica.leading)
    known = len(leader.steps())
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        done = world.rotate()
        until(lambda: world.bundles() == {world.secret()["ca.crt"]}, 20, world)
    finally:
        ended.set()
        asking.join()
    assert done.returncode == 0, done.stderr
    after = world.secret()
    assert after["ca.crt"] != before["ca.crt"]
    assert after["tls.crt"] != before["tls.crt"]
    assert after["ca.crt"].count("BEGIN") == 1
    assert leader.steps()[known:] == EXCHANGE
    assert asked[0] > 5
    assert failed == []

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
    with contextlib.suppress(KeyError):
        assert world.secret()["ca.crt"] != after["ca.crt"]
    assert rest.ready
