"""Every replica's part: look at the Secret, show what it holds, and report what is shown.

The report is a Lease of the replica's own; the leader waits for it before it drops an authority. At start it
is written before the Secret is read once more, so a replica that becomes ready either was seen by the leader
or has seen what the leader wrote.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kube import resources, times
from kube.errors import KubeError, NotFound
from kube.logs import fields
from webhook.certificates import record, rotation
from webhook.certificates.authority import BadCertificate, bundle_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.client import Client
    from webhook.certificates.record import Record
    from webhook.certificates.tls import LiveTls
    from webhook.metrics import Metrics
    from webhook.settings import Settings

log = logging.getLogger(__name__)

MANAGER = "berth-webhook"
REPLICA_LABEL = "berth.dev/replica"
LEAF, BUNDLE = "berth.dev/leaf", "berth.dev/bundle"
HEARTBEAT_SECONDS = 5.0
REPORT_SECONDS = 30
"""A report that was not renewed for so long is a dead replica's."""


@dataclass
class LastGood:
    """The last good content of the Secret that this process saw."""

    record: Record | None = None


class Follower:
    """Loads what the Secret holds, for as long as the process lives."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        tls: LiveTls,
        last_good: LastGood,
        metrics: Metrics,
        *,
        own: bool,
    ) -> None:
        self._client = client
        self._settings = settings
        self._tls = tls
        self._last_good = last_good
        self._metrics = metrics
        self._own = own
        self._bundle: str | None = None
        self._reported: tuple[str | None, str | None] | None = None
        self._reported_at = float("-inf")
        self._told: str | None = None
        self._left = False
        self.ready = asyncio.Event()
        """Set once a certificate is shown, reported, and still the Secret's."""

    async def run(self) -> None:
        """Look, load and report until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._settings.poll_s)

    async def look(self) -> None:
        """Do it once; what goes wrong is logged and tried again."""
        try:
            async with asyncio.timeout(10 * self._settings.poll_s):
                await self._load()
                await self._report()
                if self._tls.shown is not None and not self.ready.is_set():
                    # Written first, then read again: see above.
                    if await self._load():
                        await self._report()
                    self.ready.set()
            self._told = None
        except (KubeError, BadCertificate, TimeoutError) as problem:
            self._complain(problem)

    async def leave(self) -> None:
        """Take the report back: this replica shows nothing any more."""
        if not self._own:
            return
        self._left = True
        try:
            await self._client.delete(resources.LEASES, self._lease_name, namespace=self._settings.namespace)
        except KubeError as problem:
            log.info("the report could not be removed: %s", problem)

    @property
    def _lease_name(self) -> str:
        return f"{self._settings.name}-replica-{self._settings.identity}"

    async def _load(self) -> bool:
        try:
            secret = await self._client.get(
                resources.SECRETS, self._settings.secret, namespace=self._settings.namespace
            )
        except NotFound as problem:
            raise BadCertificate(f"there is no Secret {self._settings.secret}") from problem
        if not self._own:
            pair, bundle = record.read_leaf(secret)
            return self._show(lambda: self._tls.load(pair, bundle))
        found = record.read(secret)
        self._last_good.record = found
        self._metrics.signs(found.signer.certificate)
        self._bundle = rotation.bundle_id(one.fingerprint for one in found.bundle)
        if found.leaf is None:
            return False
        leaf, trusted = found.leaf, bundle_text(found.bundle)
        return self._show(lambda: self._tls.load(leaf, trusted))

    def _show(self, load: Callable[[], bool]) -> bool:
        changed = load()
        if changed and self._tls.shown is not None:
            self._metrics.shows(self._tls.shown)
            log.info(
                "certificate loaded",
                extra=fields(leaf=self._tls.shown.fingerprint, until=self._tls.shown.not_after.isoformat()),
            )
        return changed

    async def _report(self) -> None:
        if not self._own or self._left:
            return
        state = (self._tls.shown.fingerprint if self._tls.shown else None, self._bundle)
        now = time.monotonic()
        if state == self._reported and now - self._reported_at < HEARTBEAT_SECONDS:
            return
        await self._client.apply(resources.LEASES, self._lease(*state), manager=MANAGER)
        self._reported, self._reported_at = state, now

    def _lease(self, leaf: str | None, bundle: str | None) -> dict[str, Any]:
        annotations = {LEAF: leaf, BUNDLE: bundle}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self._lease_name,
                "namespace": self._settings.namespace,
                "labels": {REPLICA_LABEL: self._settings.name},
                "annotations": {name: value for name, value in annotations.items() if value is not None},
            },
            "spec": {
                "holderIdentity": self._settings.identity,
                "leaseDurationSeconds": REPORT_SECONDS,
                "renewTime": times.micros(datetime.now(UTC)),
            },
        }

    def _complain(self, problem: Exception) -> None:
        """Count it each time, say it once."""
        self._metrics.certificate_error("read")
        told = f"{type(problem).__name__}: {problem}"
        if told != self._told:
            log.warning("certificates: %s", told)
            self._told = told
