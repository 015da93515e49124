"""What the Secret holds, as data: whom to trust, who signs, and what the server shows.

While an exchange is under way the bundle holds several authorities, and the leaf may be signed by another
one than the next leaf will be. Which phase it is in follows from the content alone, so that a leader that
died leaves nothing behind that its successor could misread.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from webhook.certificates.authority import (
    BadCertificate,
    Certificate,
    Pair,
    bundle_text,
    read_certificates,
    read_pair,
)
from webhook.certificates.rotation import Authority, Leaf, Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

BUNDLE, AUTHORITY, AUTHORITY_KEY = "ca.crt", "signer.crt", "signer.key"
LEAF, LEAF_KEY = "tls.crt", "tls.key"
REQUESTED = "berth.dev/rotation-requested"
"""Annotation of the Secret: a rotation by hand, by a name of its own."""
HANDLED = "berth.dev/rotation-begun"
"""Annotation of the Secret: the last rotation by hand that was begun."""


@dataclass(frozen=True)
class Record:
    """The whole content, with everything that belongs together checked."""

    bundle: tuple[Certificate, ...]
    """Whom API servers trust, the newest first."""
    signer: Pair
    """The authority that signs the next leaf; part of the bundle."""
    leaf: Pair | None
    """None while nobody may show a certificate of this signer yet, and there is no older one."""

    def stored(self) -> Stored:
        """Return what the decision about the next step needs."""
        leaf = None
        if self.leaf is not None:
            shown = self.leaf.certificate
            issuer = next((one.fingerprint for one in self.bundle if one.issued(shown)), "")
            leaf = Leaf(shown.fingerprint, issuer, shown.not_before, shown.not_after, shown.names)
        return Stored(tuple(facts(one) for one in self.bundle), self.signer.certificate.fingerprint, leaf)

    def data(self) -> dict[str, str]:
        """Return it as a Secret's `data`."""
        texts = {
            BUNDLE: bundle_text(self.bundle),
            AUTHORITY: self.signer.certificate.pem,
            AUTHORITY_KEY: self.signer.key,
            LEAF: self.leaf.certificate.pem if self.leaf else "",
            LEAF_KEY: self.leaf.key if self.leaf else "",
        }
        return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def facts(certificate: Certificate) -> Authority:
    """Return what a decision needs of an authority."""
    return Authority(certificate.fingerprint, certificate.not_before, certificate.not_after)


def read(secret: Mapping[str, Any]) -> Record:
    """Read a Secret of ours.

    Raises:
        BadCertificate: if something is missing, unreadable or does not belong together.
    """
    texts = decode(secret)
    bundle = read_certificates(texts.get(BUNDLE, ""))
    signer = read_pair(texts.get(AUTHORITY, ""), texts.get(AUTHORITY_KEY, ""))
    if signer.certificate not in bundle:
        raise BadCertificate("the signing authority is not in the bundle")
    if not all(one.is_authority for one in bundle):
        raise BadCertificate("the bundle holds something that is no authority")
    leaf = None
    if texts.get(LEAF) or texts.get(LEAF_KEY):
        leaf = read_pair(texts.get(LEAF, ""), texts.get(LEAF_KEY, ""))
        if not any(one.issued(leaf.certificate) for one in bundle):
            raise BadCertificate("the server's certificate is signed by none of the bundle")
    return Record(bundle, signer, leaf)


def read_leaf(secret: Mapping[str, Any]) -> tuple[Pair, str]:
    """Read a Secret that somebody else keeps: its leaf and the bundle, which may be empty.

    Raises:
        BadCertificate: if the leaf cannot be used.
    """
    texts = decode(secret)
    return read_pair(texts.get(LEAF, ""), texts.get(LEAF_KEY, "")), texts.get(BUNDLE, "")


def decode(secret: Mapping[str, Any]) -> dict[str, str]:
    """Return the Secret's texts.

    Raises:
        BadCertificate: if one is not base64 of a text.
    """
    data = secret.get("data") or {}
    try:
        return {name: base64.b64decode(value or "", validate=True).decode() for name, value in data.items()}
    except (binascii.Error, UnicodeDecodeError, TypeError, ValueError) as problem:
        raise BadCertificate(f"the Secret's data cannot be decoded: {problem}") from problem
