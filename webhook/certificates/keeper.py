"""The leader's part: see, decide, take one step, again.

Everything is read afresh from the API server before each step, and each write is fenced: by the Lease, and
for the Secret by its resource version. A bundle counts as published from when it is read back everywhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kube import resources
from kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from kube.logs import fields
from kube.objects import notes_of
from webhook.certificates import authority, record, rotation
from webhook.certificates.authority import BadCertificate, Certificate
from webhook.certificates.follower import BUNDLE, LEAF, MANAGER, REPLICA_LABEL, REPORT_SECONDS
from webhook.certificates.record import HANDLED, REQUESTED, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.client import Client
    from kube.resources import Resource
    from webhook.certificates.follower import LastGood
    from webhook.certificates.rotation import Observed, Step
    from webhook.metrics import Metrics
    from webhook.settings import Settings

log = logging.getLogger(__name__)

CONFIGURATIONS = (resources.VALIDATING_WEBHOOKS, resources.MUTATING_WEBHOOKS)
_FORGET_SECONDS = 600.0
"""After which a dead replica's report is removed."""


@dataclass(frozen=True)
class Configured:
    """The webhook configurations, and whom they trust."""

    objects: tuple[tuple[Resource, dict[str, Any]], ...]
    trusted: tuple[tuple[Certificate, ...], ...]
    """By each of their entries."""

    def entries(self) -> tuple[tuple[rotation.Authority, ...], ...]:
        """Return whom each entry trusts, as decisions need it."""
        return tuple(tuple(record.facts(one) for one in entry) for entry in self.trusted)

    def authorities(self) -> dict[str, Certificate]:
        """Return every authority that is trusted, by its fingerprint."""
        return {one.fingerprint: one for entry in self.trusted for one in entry if one.is_authority}


@dataclass(frozen=True)
class Seen:
    """What was read for one step."""

    observed: Observed
    record: Record | None
    remembered: Record | None
    secret: dict[str, Any] | None
    configured: Configured


@dataclass
class Since:
    """How long something has been the case without a break."""

    clock: Callable[[], float]
    what: object = None
    began: float = 0.0

    def seconds(self, what: object) -> float | None:
        """Return for how long; None where it is not the case now."""
        if what is None:
            self.what = None
            return None
        if what != self.what:
            self.what, self.began = what, self.clock()
        return self.clock() - self.began


class Keeper:
    """Looks after the certificates while this replica leads."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        last_good: LastGood,
        metrics: Metrics,
        fence: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._last_good = last_good
        self._metrics = metrics
        self._fence = fence
        self._clock = clock
        self._policy = rotation.Policy(settle_s=settings.settle_s)
        self._reports: dict[str, tuple[str, float]] = {}
        self._published, self._switched = Since(clock), Since(clock)
        self._told = ""

    async def run(self) -> None:
        """Take step after step until cancelled."""
        # A new leader has not watched anything for any time yet.
        self._reports.clear()
        self._published, self._switched = Since(self._clock), Since(self._clock)
        while True:
            await asyncio.sleep(await self.step())

    async def step(self) -> float:
        """See, decide and do once; return for how long there is nothing to do."""
        try:
            async with asyncio.timeout(30):
                seen = await self.see()
                self._metrics.phase(rotation.phase(seen.observed))
                step = rotation.decide(seen.observed, datetime.now(UTC), self._policy)
                await self._take(step, seen)
        except (Conflict, AlreadyExists):
            return self._settings.poll_s / 2
        except (KubeError, BadCertificate, TimeoutError) as problem:
            self._metrics.certificate_error("keep")
            self._tell(f"{type(problem).__name__}: {problem}", logging.WARNING)
            return self._settings.poll_s
        quiet = isinstance(step, rotation.Wait | rotation.Rest)
        return self._settings.poll_s if quiet else 0.0

    async def see(self) -> Seen:
        """Read everything that a step is decided by."""
        namespace = self._settings.namespace
        secret: dict[str, Any] | None
        try:
            secret = await self._client.get(resources.SECRETS, self._settings.secret, namespace=namespace)
        except NotFound:
            secret = None
        content = self._read(secret)
        configured = await self._configured()
        entries = configured.entries()
        replicas = await self._replicas()
        stored = content.stored() if content else None
        everywhere = stored is not None and all(
            {one.id for one in entry} == set(stored.ids) for entry in entries
        )
        leaf = stored.leaf.id if stored and stored.leaf else None
        switched = everywhere and leaf is not None and all(one.leaf == leaf for one in replicas)
        notes = notes_of(secret or {})
        observed = rotation.Observed(
            stored=stored,
            remembered=self._last_good.record.stored() if self._last_good.record else None,
            published=entries,
            replicas=replicas,
            published_s=self._published.seconds(stored.ids if stored and everywhere else None),
            switched_s=self._switched.seconds((leaf, stored.ids) if stored and switched else None),
            requested=notes.get(REQUESTED) != notes.get(HANDLED),
            names=frozenset(self._settings.names),
        )
        return Seen(observed, content, self._last_good.record, secret, configured)

    def _read(self, secret: dict[str, Any] | None) -> Record | None:
        if secret is None:
            return None
        try:
            found = record.read(secret)
        except BadCertificate as problem:
            self._metrics.certificate_error("secret")
            self._tell(f"the Secret is broken: {problem}", logging.ERROR)
            return None
        self._metrics.signs(found.signer.certificate)
        return found

    async def _configured(self) -> Configured:
        found: list[tuple[Resource, dict[str, Any]]] = []
        trusted: list[tuple[Certificate, ...]] = []
        for resource in CONFIGURATIONS:
            try:
                configuration = await self._client.get(resource, self._settings.name)
            except NotFound:
                continue
            found.append((resource, configuration))
            for webhook in configuration.get("webhooks") or []:
                trusted.append(_trusted((webhook.get("clientConfig") or {}).get("caBundle") or ""))
        return Configured(tuple(found), tuple(trusted))

    async def _replicas(self) -> tuple[rotation.Replica, ...]:
        """The living: by our own clock, since when a report has not changed."""
        listing = await self._client.list(
            resources.LEASES,
            namespace=self._settings.namespace,
            labels=f"{REPLICA_LABEL}={self._settings.name}",
        )
        now = self._clock()
        living, reports = [], {}
        for lease in listing.items:
            name, annotations = lease["metadata"]["name"], lease["metadata"].get("annotations") or {}
            renewed = str((lease.get("spec") or {}).get("renewTime"))
            before = self._reports.get(name)
            reports[name] = before if before and before[0] == renewed else (renewed, now)
            silent = now - reports[name][1]
            if silent < REPORT_SECONDS:
                living.append(rotation.Replica(annotations.get(LEAF), annotations.get(BUNDLE)))
            elif silent > _FORGET_SECONDS:
                self._fence()
                await self._client.delete(resources.LEASES, name, namespace=self._settings.namespace)
        self._reports = reports
        return tuple(living)

    async def _take(self, step: Step, seen: Seen) -> None:
        if isinstance(step, rotation.Rest):
            self._told = ""
            return
        reason = getattr(step, "reason", "")
        self._tell(f"certificates: {type(step).__name__}: {reason}", logging.INFO)
        if isinstance(step, rotation.Wait):
            return
        self._fence()
        if isinstance(step, rotation.Publish):
            await self._publish(seen)
        else:
            await self._store(self._made(step, seen), seen, begins=isinstance(step, rotation.NewAuthority))
        self._metrics.step(type(step).__name__)

    def _made(self, step: Step, seen: Seen) -> Record:
        now = datetime.now(UTC)
        settings = self._settings
        if isinstance(step, rotation.NewAuthority):
            known = seen.configured.authorities()
            for content in (seen.remembered, seen.record):
                known.update({one.fingerprint: one for one in content.bundle} if content else {})
            source = {"stored": seen.record, "remembered": seen.remembered, None: None}[step.leaf]
            signer = authority.make_authority(now, settings.authority_life)
            kept = tuple(known[one] for one in step.keep if one in known)
            return Record((signer.certificate, *kept), signer, source.leaf if source else None)
        assert seen.record is not None  # the other steps are decided by it
        if isinstance(step, rotation.Drop):
            kept = tuple(one for one in seen.record.bundle if one.fingerprint in step.keep)
            return Record(kept, seen.record.signer, seen.record.leaf)
        leaf = authority.make_leaf(seen.record.signer, settings.names, now, settings.leaf_life)
        return Record(seen.record.bundle, seen.record.signer, leaf)

    async def _store(self, content: Record, seen: Seen, *, begins: bool) -> None:
        secret = seen.secret
        metadata: dict[str, Any] = {
            "name": self._settings.secret,
            "namespace": self._settings.namespace,
            "labels": {"app.kubernetes.io/part-of": "berth"},
        }
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "type": "Opaque",
            "data": content.data(),
        }
        if secret is None:
            stored = await self._client.create(resources.SECRETS, body)
        else:
            before = secret["metadata"]
            annotations = dict(before.get("annotations") or {})
            if begins and REQUESTED in annotations:
                annotations[HANDLED] = annotations[REQUESTED]
            metadata["resourceVersion"] = before["resourceVersion"]
            metadata["labels"] = {**(before.get("labels") or {}), **metadata["labels"]}
            metadata["annotations"] = annotations
            body["type"] = secret.get("type", "Opaque")
            stored = await self._client.replace(resources.SECRETS, body)
        self._last_good.record = content
        log.info(
            "certificates stored",
            extra=fields(
                authorities=len(content.bundle),
                leaf=content.leaf.certificate.fingerprint if content.leaf else None,
                version=stored["metadata"]["resourceVersion"],
            ),
        )

    async def _publish(self, seen: Seen) -> None:
        assert seen.record is not None  # published is what is stored
        bundle = base64.b64encode(authority.bundle_text(seen.record.bundle).encode()).decode()
        for resource, configuration in seen.configured.objects:
            names = [webhook["name"] for webhook in configuration.get("webhooks") or []]
            body = {
                "apiVersion": f"{resource.group}/{resource.version}",
                "kind": resource.kind,
                "metadata": {"name": self._settings.name},
                "webhooks": [{"name": name, "clientConfig": {"caBundle": bundle}} for name in names],
            }
            if names:
                await self._client.apply(resource, body, manager=MANAGER)

    def _tell(self, text: str, level: int) -> None:
        if text != self._told:
            log.log(level, text)
            self._told = text


def _trusted(bundle: str) -> tuple[Certificate, ...]:
    """What a configuration trusts; nothing where it cannot be read."""
    try:
        return authority.read_certificates(base64.b64decode(bundle, validate=True).decode())
    except (BadCertificate, binascii.Error, UnicodeDecodeError, ValueError):
        return ()
