"""Certificates of a folder for the running server: loaded, and loaded again when they change."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kube.logs import fields
from webhook.certificates import folder
from webhook.certificates.authority import BadCertificate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from webhook.certificates.tls import LiveTls
    from webhook.metrics import Metrics
    from webhook.settings import Settings

log = logging.getLogger(__name__)


class FolderSource:
    """Looks at the folder again and again; `made` also renews what this program made there."""

    def __init__(self, settings: Settings, tls: LiveTls, metrics: Metrics) -> None:
        if settings.cert_dir is None:
            raise ValueError("a folder of certificates needs a path")
        self._folder: Path = settings.cert_dir
        self._settings = settings
        self._tls = tls
        self._metrics = metrics
        self._told = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._settings.poll_s)

    async def ready(self) -> None:
        """Wait until there is a certificate to show."""
        await self._tls.loaded.wait()

    async def step_down(self) -> None:
        """Nobody leads here."""

    async def leave(self) -> None:
        """Nobody is to be told."""

    def workspaces(self) -> Iterable[Any]:
        """Without a cluster no other Workspaces are known."""
        return ()

    def look(self) -> None:
        """Load what is new; what cannot be used is said once and changes nothing."""
        try:
            if self._settings.certificates == "made":
                folder.ensure(self._folder, self._settings.names, datetime.now(UTC))
            pair, bundle = folder.load(self._folder)
            changed = self._tls.load(pair, bundle)
        except (BadCertificate, OSError) as problem:
            self._metrics.certificate_error("folder")
            if str(problem) != self._told:
                log.warning("certificates: %s", problem)
                self._told = str(problem)
            return
        self._told = ""
        if changed:
            shown = pair.certificate
            self._metrics.shows(shown)
            log.info(
                "certificate loaded", extra=fields(leaf=shown.fingerprint, until=shown.not_after.isoformat())
            )
