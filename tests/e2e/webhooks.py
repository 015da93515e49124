"""Replicas of the webhook at a real API server, for tests: real programs with the platform's rights."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from generator.platform import access, admission, frame
from tests import images
from tests.e2e import rights
from tests.e2e.balancer import Backend
from tests.e2e.conftest import ROOT, free_ports
from tests.webhook.asking import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.balancer import Balancer
    from tests.e2e.conftest import Kubectl

NAME, SECRET, HOME = frame.WEBHOOK, frame.CERTIFICATES, frame.NAMESPACE
KINDS = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")


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
        return images.page(self.plain, f"/{name}")

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
    balancer: Balancer | None = None
    flags: tuple[str, ...] = ()
    """More of every replica's command line."""

    def start(self, name: str, port: int | None = None, plain: int | None = None) -> Replica:
        """Start a replica; where there is a balancer it becomes one of its endpoints."""
        if port is None or plain is None:
            port, plain = free_ports(2)
        log = self.folder / f"{name}.log"
        command = [*self.command("serve"), "--identity", name, "--host", "127.0.0.1"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port), "--plain-port", str(plain)],
                stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment(),
            )  # fmt: skip
        self.replicas[name] = Replica(process, port, plain, log)
        if self.balancer is not None:
            self.balancer.add(Backend(name, port, plain))
        return self.replicas[name]

    def command(self, what: str) -> list[str]:
        return [
            sys.executable, "-m", "webhook", what, "--kubeconfig", str(self.kubeconfig),
            "--dns-name", "127.0.0.1", "--poll-seconds", "0.3",
            "--settle-seconds", "2", "--lease-seconds", "5", "--quiet-seconds", "0.5", *self.flags,
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

    @contextlib.contextmanager
    def rotating(self) -> Iterator[subprocess.Popen[bytes]]:
        """Ask for an exchange, and wait for it elsewhere."""
        with (self.folder / "rotate.log").open("wb") as output:
            process = subprocess.Popen(
                self.command("rotate"),
                stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment(),
            )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()

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
        document = workspace("small", inference=inference)
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


def limited(cluster: Kubectl, folder: Path, settings: frame.Settings | None = None) -> Path:
    """Return a kubeconfig with the rights of the webhook's service account, and none of another platform."""
    cluster("delete", "role,rolebinding", NAME, "-n", HOME, "--ignore-not-found")
    return rights.limited(cluster, folder, NAME, HOME, access.webhook(settings or frame.Settings()))


@contextlib.contextmanager
def behind_a_service(cluster: Kubectl, namespace: str, folder: Path, balancer: Balancer) -> Iterator[World]:
    """Both configurations name one address, as the platform's name one Service; no replica runs yet."""
    world = World(cluster, namespace, folder, limited(cluster, folder), balancer=balancer)
    with cleaned(world):
        configure(world, {"validate": balancer.port, "mutate": balancer.port})
        yield world


def configure(world: World, ports: dict[str, int]) -> None:
    """Store both configurations."""
    for kind, path in (
        ("ValidatingWebhookConfiguration", "validate"),
        ("MutatingWebhookConfiguration", "mutate"),
    ):
        body = json.dumps(configuration(kind, path, ports[path], world.namespace))
        world.cluster("apply", "--server-side", "-f", "-", stdin=body)


def as_installed(settings: frame.Settings, port: int, authority: bytes | None = None) -> list[Any]:
    """Return the platform's own configurations; only the address differs, since there is no Service here."""
    found = list(admission.configurations(settings))
    for one in found:
        for entry in one["webhooks"]:
            path = entry.pop("clientConfig")["service"]["path"]
            entry["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}"}
            if authority is not None:
                entry["clientConfig"]["caBundle"] = base64.b64encode(authority).decode()
    return found


@contextlib.contextmanager
def cleaned(world: World) -> Iterator[None]:
    """End the replicas and take away what they made."""
    try:
        yield
    finally:
        for replica in world.replicas.values():
            replica.process.kill()
            replica.process.wait()
        for kind in KINDS:
            world.cluster("delete", kind, NAME, "--ignore-not-found")
        world.cluster("delete", "secret,lease", "--all", "-n", HOME)
