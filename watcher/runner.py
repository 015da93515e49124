"""One term of leading: passes over Workspaces, each a look, a decision and its writes.

Everything begins anew with the term, the copies of the cluster as well: what a watch missed while we stood by
must not be decided on. Between the look and the reservation of what was decided nothing is awaited, so passes
that overlap in time never spend the same budget or count the same node.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from berth import labels
from kube import resources
from kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound
from kube.events import Recorder
from kube.logs import fields
from kube.objects import items, labels_of, metadata
from kube.reflector import key_of
from watcher import indices, rails, reconcile, usage
from watcher.acting import Actor
from watcher.cache import CLAIMS, Cache
from watcher.queue import Queue, work
from watcher.world import Create, Delete, PatchStatus, RemoveFinalizer, Tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.client import Client, Object
    from kube.configuration import Configuration
    from kube.reflector import Key
    from kube.resources import Resource
    from watcher.metrics import Metrics
    from watcher.settings import Settings
    from watcher.world import Amount, Decision, Rails, Snapshot

log = logging.getLogger(__name__)
TEND_S = 1.0
WAITING_S = 10.0
CONFIRM_S = 5.0
"""What we wrote and no watch has shown for this long is asked for by name."""


class Term:
    """From the moment at which the lease is ours until it is not."""

    def __init__(
        self, client: Client, settings: Settings, configuration: Configuration, metrics: Metrics, *,
        check: Callable[[], None], now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._client = client
        self._settings = settings
        self._configuration = configuration
        self._metrics = metrics
        self._now = now
        self.queue: Queue[Key] = Queue()
        self._heard: dict[Key, float] = {}
        self._told_orphans: set[str] = set()
        self._ledger = usage.Ledger()
        self._rails = self._read_rails()
        self.cache = Cache(client, self._wanted, self._counted)
        self._recorder = Recorder(client, controller="berth.dev/watcher", instance=settings.identity)
        self._actor = Actor(client, self.cache, self._recorder, check, metrics, now, settings.late_s)

    async def run(self) -> None:
        """Work until cancelled, or until something breaks that only a new start mends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.cache.run())
            await self._known()
            self._actor.inherited = frozenset(self.cache.uids())
            log.info("the cluster is known", extra=fields(workspaces=len(self.cache.known())))
            group.create_task(self._tend())
            group.create_task(work(self.queue, self._pass, workers=self._settings.workers))

    async def _known(self) -> None:
        """Wait until everything was read once, and say for what it takes long."""
        while True:
            try:
                async with asyncio.timeout(WAITING_S):
                    return await self.cache.synced()
            except TimeoutError:
                log.warning("still waiting for %s", ", ".join(self.cache.waiting()))

    async def _tend(self) -> None:
        """Notice what no event tells: kinds that come and go, writes that vanished, another fleet file."""
        served, polled = self.cache.served(), time.monotonic()
        while True:
            await asyncio.sleep(TEND_S)
            if self.cache.served() != served:
                served = self.cache.served()
                log.info("what the cluster serves changed", extra=fields(served=served))
                self._all_wanted()
            for resource, key in self.cache.unseen(CONFIRM_S):
                await self._confirm(resource, key)
            if time.monotonic() - polled >= self._settings.poll_s:
                polled = time.monotonic()
                if self._configuration.refresh():
                    self._rails = self._read_rails()
                    for resource, claim in self.cache.claims():
                        self._counted(resource, key_of(claim))
                    self._all_wanted()

    async def _confirm(self, resource: Resource, key: Key) -> None:
        try:
            self.cache.wrote(resource, await self._client.get(resource, key[1]))
        except NotFound:
            self.cache.gone(resource, key)
        except KubeError as error:
            log.debug("%s %s could not be confirmed: %s", resource.kind, key[1], error)

    async def _pass(self, key: Key) -> float | None:
        """Look at one Workspace, decide, and do it; return when time alone asks for another look."""
        began, heard = time.monotonic(), self._heard.pop(key, None)
        workspace = self.cache.get(resources.WORKSPACES, key)
        if workspace is None:
            await self._gone(key)
            return None
        outcome = "failed"
        try:
            decision = await self._decided_and_done(key, workspace, heard)
            outcome = decision.outcome
        except Conflict:
            # The watch is behind: what the API server has now is the next pass's beginning.
            outcome = "stale"
            self.cache.wrote(
                resources.WORKSPACES, await self._client.get(resources.WORKSPACES, key[1], key[0])
            )
            return 0.0
        finally:
            self._metrics.passed(outcome, time.monotonic() - began)
        again_s = self._settings.resync_s * random.uniform(0.9, 1.1)
        return again_s if decision.again_s is None else min(decision.again_s, again_s)

    async def _decided_and_done(self, key: Key, workspace: Object, heard: float | None) -> Decision:
        own = metadata(workspace)
        live = "deletionTimestamp" in own and labels.FINALIZER in items(own.get("finalizers"))
        claims = await self._live_claims(workspace) if live else self.cache.claims_of(workspace)
        snapshot = self.cache.snapshot(
            workspace, claims, live=live, usage=self._ledger.usage(key[0], self._now())
        )
        decision = self._decide(snapshot)
        # Counted and reserved before anything is awaited: another pass sees what this one is about to take.
        self.cache.count(key, decision.workers)
        waiting = [step.body for step in decision.actions if isinstance(step, Create)]
        for claim in waiting:
            self._reserve(claim, key[0])
        try:
            for step in decision.actions:
                if isinstance(step, RemoveFinalizer) and (wait_s := self._actor.wait_s(workspace)):
                    return replace(decision, again_s=wait_s)
                writes = self._client.writes
                workspace = await self._actor.act(workspace, step)
                if isinstance(step, Create):
                    waiting.remove(step.body)
                if heard is not None and self._client.writes > writes:
                    self._metrics.wrote_after(time.monotonic() - heard)
                    heard = None
        except (Forbidden, Invalid) as error:
            if not waiting and not isinstance(step, Delete):
                raise
            return await self._refused(snapshot, workspace, error)
        except NotFound:
            if waiting:
                raise
            log.debug("%s/%s is gone", *key)
        finally:
            for claim in waiting:
                self._release(claim)
        return decision

    async def _refused(self, snapshot: Snapshot, workspace: Object, error: KubeError) -> Decision:
        """Say on the Workspace why the API server lets no claim be made or removed."""
        decision = self._decide(replace(snapshot, refused=str(error)))
        for step in decision.actions:
            if isinstance(step, PatchStatus | Tell):
                workspace = await self._actor.act(workspace, step)
        return decision

    def _decide(self, snapshot: Snapshot) -> Decision:
        return reconcile.decide(snapshot, self._configuration.fleet, self._rails, self._now())

    async def _live_claims(self, workspace: Object) -> tuple[Object, ...]:
        """Return the claims with the Workspace's uid as the API server has them at this moment."""
        found: list[Object] = []
        for resource in CLAIMS.values():
            try:
                selector = f"{labels.WORKSPACE_UID}={metadata(workspace).get('uid')}"
                found += (await self._client.list(resource, labels=selector)).items
            except NotFound:
                continue  # without the definition there are no objects
        return tuple(found)

    async def _gone(self, key: Key) -> None:
        """Forget a Workspace; claims that it left behind are told, and deleted by nobody but people."""
        self.cache.forget(key)
        self._metrics.passed("gone", 0.0)
        for resource, claim in self.orphans():
            name = str(claim["metadata"]["name"])
            if name not in self._told_orphans and f"name:{key[0]}/{key[1]}" in indices.owners(claim):
                self._told_orphans.add(name)
                note = (
                    f"Workspace {key[0]}/{key[1]}, for which this node was made, is gone; "
                    f"if nobody needs the node: kubectl delete {resource.plural}.{resource.group} {name}"
                )
                log.warning(note, extra=fields(claim=name))
                await self._recorder.record(claim, "Warning", "Orphaned", note, "Reconcile")

    def orphans(self) -> list[tuple[Resource, Object]]:
        """Return the claims that were made for a Workspace that is not there any more."""
        found = []
        for resource, claim in self.cache.claims():
            uid = labels_of(claim).get(labels.WORKSPACE_UID)
            if uid is not None and self.cache.workspace_of_uid(uid) is None:
                found.append((resource, claim))
        return found

    def amounts(self) -> dict[str, Amount]:
        """Return what each namespace's claims take, for the metrics."""
        return self._ledger.namespaces()

    def _wanted(self, key: Key) -> None:
        self._heard.setdefault(key, time.monotonic())
        self.queue.add(key)

    def _all_wanted(self) -> None:
        for key in self.cache.known():
            self.queue.add(key)

    def _counted(self, resource: Resource, key: Key) -> None:
        """Bring the ledger up to date about one claim."""
        if resource not in CLAIMS.values():
            return
        claim = self.cache.get(resource, key)
        if claim is None or labels.WORKSPACE_UID not in labels_of(claim):
            self._ledger.drop(key[1])
            return
        self._reserve(claim, labels_of(claim).get(labels.WORKSPACE_NAMESPACE, ""))

    def _reserve(self, claim: Object, namespace: str) -> None:
        own = metadata(claim)
        self._ledger.put(str(own["name"]), namespace, rails.amount(claim, self._rails))
        made = own.get("creationTimestamp")
        at = self._now() if made is None else datetime.fromisoformat(str(made))
        self._ledger.created(str(own["name"]), namespace, at)

    def _release(self, claim: Object) -> None:
        name = str(metadata(claim)["name"])
        self._ledger.drop(name)
        self._ledger.uncreated(name)

    def _read_rails(self) -> Rails:
        configuration = self._configuration
        return rails.of(configuration.fleet, configuration.catalog, dry_run=self._settings.dry_run)
