"""What a replica does in a cluster beside answering: certificates, leading, the Workspaces' cache."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from berth.errors import BerthError
from kube import resources
from kube.client import Client
from kube.leases import Leader
from kube.reflector import Reflector
from webhook.certificates.follower import Follower, LastGood
from webhook.certificates.keeper import Keeper
from webhook.folders import FolderSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from webhook.certificates.tls import LiveTls
    from webhook.metrics import Metrics
    from webhook.settings import Settings

log = logging.getLogger(__name__)

USER_AGENT = "berth-webhook"
_AGAIN_SECONDS = 5.0


class Cluster:
    """Keeps certificates current by the chosen way, and knows the cluster's Workspaces."""

    def __init__(self, settings: Settings, tls: LiveTls, metrics: Metrics) -> None:
        self._settings = settings
        self._tls = tls
        self._metrics = metrics
        self._last_good = LastGood()
        self._client: Client | None = None
        self._follower: Follower | None = None
        self._leading: asyncio.Task[None] | None = None
        self._reflector: Reflector | None = None
        self._connected = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        client = await Client.connect(self._settings.kubeconfig, user_agent=USER_AGENT)
        self._client = client
        self._reflector = Reflector(client, resources.WORKSPACES)
        own = self._settings.certificates == "own"
        jobs = [self._again(self._reflector.run, "the Workspaces' cache")]
        if self._settings.certificates == "files":
            jobs.append(FolderSource(self._settings, self._tls, self._metrics).run())
        else:
            self._follower = Follower(
                client, self._settings, self._tls, self._last_good, self._metrics, own=own
            )
            jobs.append(self._follower.run())
        if own:
            self._leading = asyncio.create_task(self._lead(client))
        self._connected.set()
        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(job)
        finally:
            await self.step_down()
            await client.close()

    async def ready(self) -> None:
        """Wait until there is a certificate to show, and the leader can know of us."""
        await self._connected.wait()
        if self._follower is not None:
            await self._follower.ready.wait()
        else:
            await self._tls.loaded.wait()

    async def step_down(self) -> None:
        """Leave the leader's work to another replica."""
        if self._leading is not None:
            self._leading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._leading
            self._leading = None
            self._metrics.leader.set(0)

    async def leave(self) -> None:
        """Take this replica's report back, now that it serves nobody."""
        if self._follower is not None:
            await self._follower.leave()

    def workspaces(self) -> Iterable[Any]:
        """The Workspaces of the cluster, as far as they are known."""
        return [] if self._reflector is None else list(self._reflector.store.values())

    async def _lead(self, client: Client) -> None:
        leader = Leader(
            client,
            namespace=self._settings.namespace,
            name=self._settings.name,
            identity=self._settings.identity,
            duration_s=self._settings.lease_s,
        )
        keeper = Keeper(client, self._settings, self._last_good, self._metrics, leader.check)

        async def work() -> None:
            self._metrics.leader.set(1)
            log.info("leading: this replica looks after the certificates")
            try:
                await keeper.run()
            finally:
                self._metrics.leader.set(0)

        await self._again(lambda: leader.run(work), "the leader's election")

    async def _again(self, job: Callable[[], Awaitable[None]], what: str) -> None:
        """Begin anew whatever ended by itself; certificates in use are served meanwhile."""
        while True:
            try:
                await job()
            except Exception as problem:  # a replica serves on whatever happens beside it
                bug = None if isinstance(problem, BerthError) else problem
                log.error("%s ended: %s: %s", what, type(problem).__name__, problem, exc_info=bug)
            await asyncio.sleep(_AGAIN_SECONDS)
