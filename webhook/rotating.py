"""Exchange the certificates by hand: ask the leader for it, or do it in a folder of our own."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kube import resources
from kube.client import Client
from kube.errors import KubeError, NotFound
from webhook.certificates import folder, record
from webhook.certificates.authority import BadCertificate
from webhook.certificates.record import HANDLED, REQUESTED

if TYPE_CHECKING:
    from webhook.settings import Settings

log = logging.getLogger(__name__)

EXIT_FAILED = 1
_LOOK_SECONDS = 1.0


def run(settings: Settings) -> int:
    """Exchange them, wait until that is done, and return the exit code."""
    try:
        if settings.standalone and settings.cert_dir is not None:
            folder.rotate(settings.cert_dir, settings.names, datetime.now(UTC))
            return 0
        if settings.certificates != "own":
            log.error("these certificates are somebody else's; ask whoever makes them")
            return EXIT_FAILED
        return asyncio.run(ask(settings))
    except (BadCertificate, KubeError, OSError) as problem:
        log.error("%s", problem)
        return EXIT_FAILED


async def ask(settings: Settings) -> int:
    """Write the wish on the Secret; the leader does the work, in phases."""
    client = await Client.connect(settings.kubeconfig, user_agent="berth-webhook-rotate")
    wish = secrets.token_hex(8)
    try:
        patch: dict[str, Any] = {"metadata": {"annotations": {REQUESTED: wish}}}
        await client.patch(resources.SECRETS, settings.secret, patch, namespace=settings.namespace)
        deadline = time.monotonic() + settings.timeout_s
        while time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                secret = await client.get(resources.SECRETS, settings.secret, settings.namespace)
                content = record.read(secret)
            except (NotFound, BadCertificate):
                continue
            begun = (secret["metadata"].get("annotations") or {}).get(HANDLED) == wish
            if begun and len(content.bundle) == 1 and content.leaf is not None:
                log.info("exchanged: the authority is %s", content.signer.certificate.fingerprint)
                return 0
    finally:
        await client.close()
    log.error("not done after %g s; the leader's log says what it waits for", settings.timeout_s)
    return EXIT_FAILED
