"""Certificates in a folder: mounted by cert-manager or made by hand, or made here to try things out.

The names are those of a TLS Secret: `tls.crt`, `tls.key` and, where known, `ca.crt`. Only a folder that this
program filled itself holds `ca.key` as well; any other folder is only ever read.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from webhook.certificates import authority, rotation
from webhook.certificates.authority import BadCertificate, Pair
from webhook.certificates.rotation import LIFE_OF_AUTHORITY, LIFE_OF_LEAF, Policy

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE, AUTHORITY_KEY, LEAF, LEAF_KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"


def load(folder: Path) -> tuple[Pair, str]:
    """Return the server's certificate and whom to trust, which may be empty.

    Raises:
        BadCertificate: if there is none that can be used.
    """
    try:
        pair = authority.read_pair((folder / LEAF).read_text(), (folder / LEAF_KEY).read_text())
        bundle = (folder / BUNDLE).read_text() if (folder / BUNDLE).is_file() else ""
        if bundle:
            authority.read_certificates(bundle)
    except (OSError, UnicodeDecodeError) as problem:
        raise BadCertificate(f"{folder}: {problem}") from problem
    return pair, bundle


def ensure(folder: Path, names: tuple[str, ...], now: datetime, policy: Policy | None = None) -> bool:
    """Make what is absent, ended or due; return whether anything was made.

    A folder that holds somebody else's certificate is left alone, whatever it holds.
    """
    policy = policy or Policy()
    if not (folder / LEAF).exists() and not (folder / LEAF_KEY).exists():
        rotate(folder, names, now)
        return True
    if not (folder / AUTHORITY_KEY).exists():
        return False
    try:
        shown = authority.read_pair((folder / LEAF).read_text(), (folder / LEAF_KEY).read_text()).certificate
        bundle = authority.read_certificates((folder / BUNDLE).read_text())
        signer = Pair(bundle[0], (folder / AUTHORITY_KEY).read_text())
        authority.read_pair(signer.certificate.pem, signer.key)
        due = rotation.renewal(signer.certificate.not_before, signer.certificate.not_after, policy)
    except (BadCertificate, OSError, UnicodeDecodeError):
        due = datetime.min.replace(tzinfo=UTC)
    if due <= now:
        rotate(folder, names, now)
        return True
    leaf_due = rotation.renewal(shown.not_before, shown.not_after, policy)
    if leaf_due > now and set(names) <= shown.names:
        return False
    _write_leaf(folder, authority.make_leaf(signer, names, now, LIFE_OF_LEAF))
    return True


def rotate(folder: Path, names: tuple[str, ...], now: datetime) -> None:
    """Make a new authority and a new certificate; the authority before it stays trusted."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / LEAF).exists() and not (folder / AUTHORITY_KEY).exists():
        raise BadCertificate(f"{folder} holds a certificate that was not made here; it is left alone")
    before: tuple[authority.Certificate, ...] = ()
    if (folder / BUNDLE).exists():
        try:
            before = authority.read_certificates((folder / BUNDLE).read_text())[:1]
        except BadCertificate:
            before = ()
    signer = authority.make_authority(now, LIFE_OF_AUTHORITY)
    leaf = authority.make_leaf(signer, names, now, LIFE_OF_LEAF)
    trusted = (signer.certificate, *(one for one in before if one.not_after > now))
    _write(folder / AUTHORITY_KEY, signer.key)
    _write(folder / BUNDLE, authority.bundle_text(trusted))
    _write_leaf(folder, leaf)


def _write_leaf(folder: Path, leaf: Pair) -> None:
    _write(folder / LEAF_KEY, leaf.key)
    _write(folder / LEAF, leaf.shown)


def _write(path: Path, text: str) -> None:
    """Replace a file in one step, readable by its owner alone."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
