"""The webhook's certificates by cert-manager: issued, injected, renewed, and admission goes on meanwhile.

BERTH_CERT_MANAGER_MANIFESTS names the file of a release (`cert-manager.yaml` of
github.com/cert-manager/cert-manager, 1.19 or newer, which adds a new authority to the old one); besides it
needs a cluster (see `clusters.py`) and the images of webhook and watcher.
"""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from generator.platform import frame
from tests.e2e import clusters, installed
from tests.webhook.asking import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.clusters import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

AUTHORITY, SERVER = f"{frame.WEBHOOK}-ca", frame.WEBHOOK
WORKSPACE = json.dumps(workspace("asked", metadata={"namespace": "default"}))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with cert-manager, and a platform that leaves its certificates to it."""
    fleet = {"provisioning": "none", "images": {**clusters.PROGRAM_IMAGES, "pullPolicy": "Never"}}
    with clusters.running() as found:
        manager = installed.controller(found, "BERTH_CERT_MANAGER_MANIFESTS", "cert-manager", "cert-manager")
        with manager:
            found.give(*clusters.PROGRAM_IMAGES.values())
            with installed.platform(found, tmp_path, fleet, "--certificates", "cert-manager"):
                yield found


def test_certificates_are_issued_injected_and_renewed_without_a_refusal(cluster: Cluster) -> None:
    cluster.wait(lambda: admitted(cluster) == "", "the webhook answers over TLS", frame.NAMESPACE, 60)
    first = issued(cluster, SERVER)
    assert first.issuer == issued(cluster, AUTHORITY).subject
    assert served(cluster) == first

    exchanged(cluster)
    assert issued(cluster, SERVER) != first

    before = issued(cluster, AUTHORITY)
    renew(cluster, AUTHORITY)
    until(cluster, lambda: issued(cluster, AUTHORITY) != before, "there is a new authority", 60)
    exchanged(cluster)
    issued(cluster, SERVER).verify_directly_issued_by(issued(cluster, AUTHORITY))
    for one in cluster.get("validatingwebhookconfiguration", frame.WEBHOOK)["webhooks"]:
        bundle = x509.load_pem_x509_certificates(base64.b64decode(one["clientConfig"]["caBundle"]))
        assert issued(cluster, AUTHORITY) in bundle


def exchanged(cluster: Cluster) -> None:
    """Let the server's certificate be renewed, and wait until it is the one that is shown."""
    before = issued(cluster, SERVER)
    renew(cluster, SERVER)
    until(cluster, lambda: issued(cluster, SERVER) != before, "there is a new certificate", 60)
    # The kubelet brings a changed Secret within a minute or so.
    until(cluster, lambda: served(cluster) == issued(cluster, SERVER), "the new one is shown", 150)


def until(cluster: Cluster, holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait, with Workspaces being admitted all the while."""

    def asked() -> bool:
        assert admitted(cluster) == ""
        return holds()

    cluster.wait(asked, what, frame.NAMESPACE, seconds)
    assert {admitted(cluster) for _ in range(5)} == {""}


def renew(cluster: Cluster, name: str) -> None:
    """Ask for another certificate, as `cmctl renew` does."""
    condition = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "renewed",
                 "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}  # fmt: skip
    there = cluster.get("certificates.cert-manager.io", name, "-n", frame.NAMESPACE)["status"]["conditions"]
    cluster.kubectl(
        "patch", "certificates.cert-manager.io", name, "-n", frame.NAMESPACE, "--subresource=status",
        "--type=merge", "-p", json.dumps({"status": {"conditions": [*there, condition]}}),
    )  # fmt: skip


def issued(cluster: Cluster, certificate: str) -> x509.Certificate:
    """The certificate in the Secret that cert-manager keeps."""
    secret = AUTHORITY if certificate == AUTHORITY else frame.CERTIFICATES
    data = cluster.get("secret", secret, "-n", frame.NAMESPACE)["data"]["tls.crt"]
    return x509.load_pem_x509_certificate(base64.b64decode(data))


def served(cluster: Cluster) -> x509.Certificate:
    """The certificate that the webhook shows, whichever pod answers."""
    address = cluster.get("service", frame.WEBHOOK, "-n", frame.NAMESPACE)["spec"]["clusterIP"]
    shown = cluster("openssl", "s_client", "-connect", f"{address}:443", stdin="", check=False)
    begin, end = shown.index("-----BEGIN"), shown.index("-----END")
    return x509.load_pem_x509_certificate(f"{shown[begin:end]}-----END CERTIFICATE-----\n".encode())


def admitted(cluster: Cluster) -> str:
    """Create a Workspace for show; return nothing, or why it was refused."""
    told = cluster("sh", "-c", "kubectl create --dry-run=server -f - 2>&1", stdin=WORKSPACE, check=False)
    return "" if "created (server dry run)" in told else told or "nothing"
