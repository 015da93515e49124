"""Certificates that somebody else makes: a folder as a kubelet mounts it, and a Secret.

The webhook has the rights of a platform with cert-manager, which are none to write anything. What
cert-manager does is done here with cryptography alone: a renewed certificate, a new authority, a pair that
does not match.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from generator.platform import frame
from tests.e2e.balancer import Balancer
from tests.e2e.clients import Clients
from tests.e2e.webhooks import HOME, KINDS, NAME, SECRET, World, cleaned, configuration, limited, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

NAMES = [NAME, f"{NAME}.{HOME}", f"{NAME}.{HOME}.svc"]


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()


def _issue(name: str, by: Issued | None) -> Issued:
    """Make a certificate as cert-manager does: an authority of itself, or a server's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if by is not None:
        sans = [*map(x509.DNSName, NAMES), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = made.add_extension(x509.SubjectAlternativeName(sans), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return Issued(made.sign((by or Issued(made, key)).key, hashes.SHA256()), key)  # type: ignore[arg-type]


def authority() -> Issued:
    return _issue("an authority", None)


Texts = dict[str, str]


def content(leaf: Issued, bundle: Issued, key: Issued | None = None) -> Texts:
    return {"tls.crt": leaf.pem, "tls.key": (key or leaf).key_pem, "ca.crt": bundle.pem}


class Mounted:
    """A folder as a kubelet fills it: all files change in one step, by a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "certificates"
        self.folder.mkdir()
        self._count = 0

    def __call__(self, texts: Texts) -> None:
        self._count += 1
        real = self.folder / f"..{self._count}"
        real.mkdir()
        for name, text in texts.items():
            (real / name).write_text(text)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        link = self.folder / "..data_tmp"
        link.symlink_to(real.name)
        link.replace(self.folder / "..data")


def stored(cluster: Kubectl) -> Callable[[Texts], None]:
    def write(texts: Texts) -> None:
        data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
        secret: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET, "namespace": HOME},
            "data": data,
        }
        cluster("apply", "--server-side", "--field-manager=somebody", "-f", "-", stdin=json.dumps(secret))

    return write


@dataclass
class Scene:
    """A world, and how its certificates are replaced."""

    world: World
    write: Callable[[Texts], None]
    port: int

    def trust(self, *authorities: Issued) -> None:
        """Write the bundle into both configurations, as cert-manager's injector does."""
        bundle = base64.b64encode("".join(one.pem for one in authorities).encode()).decode()
        for kind, path in zip(
            ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"),
            ("validate", "mutate"),
            strict=True,
        ):
            one = configuration(kind, path, self.port, self.world.namespace)
            one["webhooks"][0]["clientConfig"]["caBundle"] = bundle
            self.world.cluster(
                "apply", "--server-side", "--field-manager=injector", "-f", "-", stdin=json.dumps(one)
            )

    def shown(self) -> int:
        """Return the serial number of the certificate that the replica shows."""
        text = ssl.get_server_certificate(("127.0.0.1", self.world.replicas["one"].port))
        return x509.load_pem_x509_certificate(text.encode()).serial_number

    def errors(self) -> bool:
        return 'certificate_errors_total{where="' in self.world.replicas["one"].page("metrics")[1]


@pytest.fixture(params=["files", "secret"])
def scene(
    request: pytest.FixtureRequest, cluster: Kubectl, namespace: str, tmp_path: Path
) -> Iterator[Scene]:
    rights = limited(cluster, tmp_path, frame.Settings(certificates="cert-manager"))
    with Balancer() as balancer:
        world = World(cluster, namespace, tmp_path, rights, balancer=balancer)
        with cleaned(world):
            if request.param == "files":
                mounted = Mounted(tmp_path)
                world.flags = ("--certificates", "files", "--cert-dir", str(mounted.folder))
                yield Scene(world, mounted, balancer.port)
                return
            role = ("--verb=get", "--resource=secrets", f"--resource-name={SECRET}")
            cluster("create", "role", NAME, "-n", HOME, *role)
            cluster(
                "create", "rolebinding", NAME, "-n", HOME, f"--role={NAME}", f"--serviceaccount={HOME}:{NAME}"
            )
            world.flags = ("--certificates", "secret")
            yield Scene(world, stored(cluster), balancer.port)


def test_somebody_elses_certificates_are_shown_and_replaced_without_a_refusal(scene: Scene) -> None:
    world, first = scene.world, authority()
    leaf = _issue(NAME, first)
    world.start("one")
    scene.trust(first)
    until(lambda: "waiting for certificates" in world.replicas["one"].page("readyz")[1], 30, world)
    scene.write(content(leaf, first))
    until(lambda: world.replicas["one"].ready and bool(world.balancer and world.balancer.ready), 30, world)
    until(lambda: world.submit()[0] == 0, 20, world)
    assert scene.shown() == leaf.certificate.serial_number
    with Clients(world) as asked:
        renewed = _issue(NAME, first)
        scene.write(content(renewed, first))
        until(lambda: scene.shown() == renewed.certificate.serial_number, 20, world)

        # A key that is not the certificate's: what was good is shown on.
        scene.write(content(_issue(NAME, first), first, key=leaf))
        until(scene.errors, 20, world)
        assert scene.shown() == renewed.certificate.serial_number
        assert world.replicas["one"].ready

        # Another authority, which the configurations trust before anything is shown of it.
        second = authority()
        scene.trust(first, second)
        until(lambda: len(asked.seconds) > 50, 30, world)
        last = _issue(NAME, second)
        scene.write(content(last, second))
        until(lambda: scene.shown() == last.certificate.serial_number, 20, world)
        scene.trust(second)
        served = len(asked.seconds)
        until(lambda: len(asked.seconds) > served + 20, 30, world)
    assert (asked.failed, asked.wrong) == ([], [])
    assert world.bundles() == {second.pem}
    for kind in KINDS:
        managers = {
            one["manager"]
            for one in world.cluster.get(kind, NAME, "--show-managed-fields")["metadata"]["managedFields"]
        }
        assert managers == {"injector"}
    assert world.cluster.get("leases", "-n", HOME)["items"] == []
    refused = world.rotate()
    assert refused.returncode == 1
    assert "somebody else's" in refused.stderr
