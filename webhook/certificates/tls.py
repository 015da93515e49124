"""The live TLS context: its certificate changes under the running server.

A handshake takes whatever is loaded when it begins; open connections go on. What cannot be used is refused
before it is loaded, so the last good certificate stays.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from webhook.certificates.authority import BadCertificate

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.certificates.authority import Certificate, Pair


class LiveTls:
    """A server's TLS context, with what it shows now."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.loaded = asyncio.Event()
        self.shown: Certificate | None = None
        self.bundle = ""
        """Whom to trust when calling ourselves; empty where nobody told."""
        self._clock = clock

    def load(self, pair: Pair, bundle: str = "") -> bool:
        """Show this certificate from now on; return whether it is another than before.

        Raises:
            BadCertificate: if it cannot be used; nothing changes then.
        """
        self.bundle = bundle
        if self.shown is not None and self.shown.fingerprint == pair.certificate.fingerprint:
            return False
        now = self._clock()
        if pair.certificate.not_after <= now:
            raise BadCertificate(f"the certificate ended on {pair.certificate.not_after:%Y-%m-%d %H:%M} UTC")
        if pair.certificate.not_before > now:
            raise BadCertificate(
                f"the certificate begins only on {pair.certificate.not_before:%Y-%m-%d %H:%M} UTC"
            )
        try:
            # On a context of no use first: one that refuses a key has dropped the key before it.
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
            _load(self.context, pair)
        except (ssl.SSLError, OSError) as problem:
            raise BadCertificate(f"TLS does not take the certificate: {problem}") from problem
        self.shown = pair.certificate
        self.loaded.set()
        return True

    def client(self) -> ssl.SSLContext:
        """Return a client's context that trusts what API servers trust; without a bundle, everything."""
        if self.bundle:
            return ssl.create_default_context(cadata=self.bundle)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    """Through a file in memory: the library takes paths, and the key is to touch no disk."""
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{pair.shown}{pair.key}".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
