"""Makes and reads X.509 certificates: an authority of our own, and the leaf that the server shows.

Everything is ECDSA P-256 with random serial numbers. Long names stand in the leaf's alternative names alone,
since a common name holds 64 characters at most. Each authority's subject holds a random part and every
certificate its key identifiers, so that an old and a new authority in one bundle are never mixed up.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from berth.errors import BerthError

AUTHORITY_NAME = "berth-webhook-ca"
LEAF_NAME = "berth-webhook"
SKEW = timedelta(hours=1)
"""How far the clock of an API server may be behind ours."""

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"


class BadCertificate(BerthError):
    """A certificate or a key cannot be used, with the reason."""


@dataclass(frozen=True)
class Certificate:
    """What matters of a certificate, and its PEM text."""

    pem: str
    fingerprint: str
    """SHA-256 of its bytes, in hexadecimal."""
    not_before: datetime
    not_after: datetime
    names: frozenset[str]
    """DNS names and addresses that it is good for."""
    is_authority: bool

    def parsed(self) -> x509.Certificate:
        """Return it as the library's object."""
        return x509.load_pem_x509_certificate(self.pem.encode())

    def issued(self, other: Certificate) -> bool:
        """Return whether this authority's key signed the other."""
        try:
            other.parsed().verify_directly_issued_by(self.parsed())
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


@dataclass(frozen=True)
class Pair:
    """A certificate with its private key, which is never shown."""

    certificate: Certificate
    key: str = field(repr=False)
    chain: str = ""
    """What the server shows, where there are authorities between; empty means the certificate alone."""

    @property
    def shown(self) -> str:
        """Return the PEM text that the server shows."""
        return self.chain or self.certificate.pem


def make_authority(now: datetime, life: timedelta) -> Pair:
    """Return a new authority; it can sign leaves and nothing below another authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{AUTHORITY_NAME} {secrets.token_hex(8)}")
    usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    built = (
        _builder(name, name, key, now, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(_facts(built), _key_text(key))


def make_leaf(authority: Pair, names: tuple[str, ...], now: datetime, life: timedelta) -> Pair:
    """Return a new server certificate for these DNS names and addresses; it never outlives its authority."""
    signer = _load_key(authority.key)
    issuer = authority.certificate.parsed()
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + life, authority.certificate.not_after)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    built = (
        _builder(_name(LEAF_NAME), issuer.subject, key, now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return Pair(_facts(built), _key_text(key))


def read_certificates(text: str) -> tuple[Certificate, ...]:
    """Read a bundle of PEM texts; the same certificate twice is one.

    Raises:
        BadCertificate: if there is none, or one cannot be read.
    """
    found: dict[str, Certificate] = {}
    rest = text
    while _BEGIN in rest:
        start = rest.index(_BEGIN)
        end = rest.find(_END, start)
        if end < 0:
            raise BadCertificate("a certificate is cut off")
        end += len(_END)
        try:
            facts = _facts(x509.load_pem_x509_certificate(rest[start:end].encode()))
        except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
            raise BadCertificate(f"a certificate cannot be read: {problem}") from problem
        found[facts.fingerprint] = facts
        rest = rest[end:]
    if not found:
        raise BadCertificate("there is no certificate")
    return tuple(found.values())


def read_pair(certificate: str, key: str) -> Pair:
    """Read a certificate, the first of a chain, and its key.

    Raises:
        BadCertificate: if either cannot be read, or they don't belong together.
    """
    chain = read_certificates(certificate)
    if _public(_load_key(key).public_key()) != _public(chain[0].parsed().public_key()):
        raise BadCertificate("the key is not the certificate's")
    return Pair(chain[0], key, bundle_text(chain) if len(chain) > 1 else "")


def bundle_text(certificates: tuple[Certificate, ...]) -> str:
    """Return certificates as one PEM text."""
    return "".join(one.pem for one in certificates)


def _facts(certificate: x509.Certificate) -> Certificate:
    names: set[str] = set()
    is_authority = False
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names |= set(value.get_values_for_type(x509.DNSName))
            names |= {str(address) for address in value.get_values_for_type(x509.IPAddress)}
        elif isinstance(value, x509.BasicConstraints):
            is_authority = value.ca
    return Certificate(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        certificate.fingerprint(hashes.SHA256()).hex(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        frozenset(names),
        is_authority,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _load_key(text: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise BadCertificate("the private key cannot be read") from problem
    # Another authority may choose RSA; all that is asked of such a key is its public half.
    return key  # type: ignore[return-value]


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
