"""Certificates: what stands in them, and that TLS takes them."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webhook.certificates import authority, record
from webhook.certificates.authority import BadCertificate, Pair
from webhook.certificates.record import Record
from webhook.certificates.tls import LiveTls

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
NAMES = ("berth-webhook.berth-system.svc", "localhost", "127.0.0.1", f"{'long.' * 40}svc")


@pytest.fixture(scope="module")
def signer() -> Pair:
    return authority.make_authority(NOW, YEAR)


@pytest.fixture(scope="module")
def leaf(signer: Pair) -> Pair:
    return authority.make_leaf(signer, NAMES, NOW, timedelta(days=90))


def test_an_authority_signs_leaves_and_nothing_else(signer: Pair) -> None:
    parsed = signer.certificate.parsed()
    basic = parsed.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = parsed.extensions.get_extension_for_class(x509.KeyUsage).value
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)


def test_a_leaf_is_a_servers_and_no_authority(leaf: Pair) -> None:
    parsed = leaf.certificate.parsed()
    extended = parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    usage = parsed.extensions.get_extension_for_class(x509.KeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert (usage.digital_signature, usage.key_cert_sign) == (True, False)
    assert not leaf.certificate.is_authority


def test_long_names_stand_in_the_alternative_names_only(leaf: Pair) -> None:
    (common,) = leaf.certificate.parsed().subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert len(common.value) <= 64
    assert leaf.certificate.names == set(NAMES)


def test_keys_are_p256_and_serial_numbers_random(signer: Pair, leaf: Pair) -> None:
    other = authority.make_leaf(signer, NAMES, NOW, timedelta(days=90))
    for pair in (signer, leaf):
        key = pair.certificate.parsed().public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert pair.certificate.parsed().serial_number.bit_length() > 100
    assert other.certificate.parsed().serial_number != leaf.certificate.parsed().serial_number


def test_a_clock_that_is_an_hour_behind_takes_it_and_a_leaf_never_outlives_its_authority(
    signer: Pair,
) -> None:
    long = authority.make_leaf(signer, NAMES, NOW, 3 * YEAR)
    assert long.certificate.not_before == NOW - timedelta(hours=1)
    assert long.certificate.not_after == signer.certificate.not_after


def test_two_authorities_have_different_subjects(signer: Pair) -> None:
    other = authority.make_authority(NOW, YEAR)
    assert other.certificate.parsed().subject != signer.certificate.parsed().subject


def test_the_key_is_not_shown(leaf: Pair) -> None:
    assert "PRIVATE" in leaf.key
    assert "PRIVATE" not in repr(leaf)


def test_a_record_survives_its_secret(signer: Pair, leaf: Pair) -> None:
    content = Record((signer.certificate,), signer, leaf)
    assert record.read({"data": content.data()}) == content
    unsigned = Record((signer.certificate,), signer, None)
    assert record.read({"data": unsigned.data()}) == unsigned


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data, other: data.pop("tls.key"), id="the leaf's key is missing"),
        pytest.param(lambda data, other: data.pop("ca.crt"), id="the bundle is missing"),
        pytest.param(lambda data, other: data.update({"tls.crt": "!"}), id="no base64"),
        pytest.param(lambda data, other: data.update({"tls.crt": "AAAA"}), id="no certificate"),
        pytest.param(lambda data, other: data.update({"signer.key": other["signer.key"]}), id="another key"),
        pytest.param(lambda data, other: data.update({"ca.crt": other["ca.crt"]}), id="another bundle"),
        pytest.param(
            lambda data, other: data.update({"tls.crt": other["tls.crt"], "tls.key": other["tls.key"]}),
            id="a leaf of another authority",
        ),
        pytest.param(lambda data, other: data.update({"ca.crt": data["ca.crt"][:400]}), id="cut off"),
        pytest.param(lambda data, other: data.clear(), id="empty"),
    ],
)
def test_a_broken_secret_is_told(damage: object, signer: Pair, leaf: Pair) -> None:
    data = Record((signer.certificate,), signer, leaf).data()
    strange = authority.make_authority(NOW, YEAR)
    other = Record((strange.certificate,), strange, authority.make_leaf(strange, NAMES, NOW, YEAR)).data()
    damage(data, other)  # type: ignore[operator]
    with pytest.raises(BadCertificate):
        record.read({"data": data})


class TestTls:
    """A real handshake, before and after the certificate changed under the listening server."""

    def test_a_new_certificate_is_shown_at_the_next_handshake(self) -> None:
        now = datetime.now(UTC)
        old, new = authority.make_authority(now, YEAR), authority.make_authority(now, YEAR)
        first = authority.make_leaf(old, ("localhost",), now, YEAR)
        second = authority.make_leaf(new, ("localhost",), now, YEAR)
        tls = LiveTls()
        assert tls.load(first)
        with Listener(tls) as listener:
            assert listener.shown_to(old.certificate.pem) == first.certificate.fingerprint
            assert not tls.load(first)
            assert tls.load(second)
            both = new.certificate.pem + old.certificate.pem
            assert listener.shown_to(both) == second.certificate.fingerprint
            with pytest.raises(ssl.SSLCertVerificationError):
                listener.shown_to(old.certificate.pem)

    def test_what_cannot_be_used_leaves_the_last_good_one(self) -> None:
        now = datetime.now(UTC)
        signer = authority.make_authority(now, YEAR)
        good = authority.make_leaf(signer, ("localhost",), now, YEAR)
        tls = LiveTls()
        tls.load(good)
        torn = Pair(authority.make_leaf(signer, ("localhost",), now, YEAR).certificate, good.key)
        ended = authority.make_leaf(signer, ("localhost",), now - YEAR, timedelta(days=1))
        future = authority.make_leaf(signer, ("localhost",), now + timedelta(days=2), YEAR)
        with Listener(tls) as listener:
            for bad in (torn, ended, future):
                with pytest.raises(BadCertificate):
                    tls.load(bad)
                assert listener.shown_to(signer.certificate.pem) == good.certificate.fingerprint

    def test_an_old_protocol_is_refused(self) -> None:
        now = datetime.now(UTC)
        signer = authority.make_authority(now, YEAR)
        tls = LiveTls()
        tls.load(authority.make_leaf(signer, ("localhost",), now, YEAR))
        assert tls.context.minimum_version == ssl.TLSVersion.TLSv1_2


class Listener:
    """Answers handshakes on loopback, one after the other."""

    def __init__(self, tls: LiveTls) -> None:
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                with self._tls.context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)
            except OSError:
                connection.close()

    def shown_to(self, trusted: str) -> str:
        """Connect as one who trusts these, and return the fingerprint of what was shown."""
        context = ssl.create_default_context(cadata=trusted)
        with (
            socket.create_connection(self._socket.getsockname(), 5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
            assert shown is not None
            return authority.read_certificates(ssl.DER_cert_to_PEM_cert(shown))[0].fingerprint
