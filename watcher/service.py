"""From the first connection to the last write: stand by, lead, end.

SIGTERM ends the passes wherever they are, hands the lease back and closes the port; another replica finishes
at once what was half done. A lease that was lost ends the work before anybody else may begin it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from kube.client import Client
from kube.configuration import BadConfiguration, Configuration
from kube.errors import KubeError
from kube.leases import Leader
from kube.logs import fields
from kube.serving import listen, stop_signals
from watcher import server
from watcher.metrics import Metrics, Samples
from watcher.runner import Term

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.settings import Settings

log = logging.getLogger(__name__)

EXIT_PORT, EXIT_CONFIGURATION, EXIT_CREDENTIALS, EXIT_BUG = 71, 78, 77, 70


class Watcher:
    """One replica: competes for the lease, and while it leads makes nodes and tells the Workspaces' state."""

    def __init__(
        self, client: Client, settings: Settings, configuration: Configuration, metrics: Metrics, *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._metrics = metrics
        self.term: Term | None = None
        """The present term of leading, if there is one."""
        self.leader = Leader(
            client,
            namespace=settings.namespace,
            name=settings.name,
            identity=settings.identity,
            duration_s=settings.lease_s,
        )
        self._begin = partial(
            Term, client, settings, configuration, metrics, check=self.leader.check, now=now
        )
        show_terms(metrics, self._of)
        metrics.ready.set_function(lambda: float(not self.missing))

    async def run(self) -> None:
        """Stand by and lead until cancelled."""
        await self.leader.run(self._lead)

    @property
    def missing(self) -> str:
        """Why this replica is not ready, or nothing."""
        if self.term is not None:
            return " and ".join(self.term.cache.waiting())
        return "" if self.leader.seen else "the lease"

    async def _lead(self) -> None:
        self.term = self._begin()
        self._metrics.leader.set(1)
        self._metrics.terms.inc()
        try:
            await self.term.run()
        finally:
            self._metrics.leader.set(0)
            self.term = None

    def _of(self, read: Callable[[Term], Samples]) -> Samples:
        return {} if self.term is None else read(self.term)


def show_terms(metrics: Metrics, of: Callable[[Callable[[Term], Samples]], Samples]) -> None:
    """Offer to the metrics what only a leader knows, read when somebody scrapes."""
    kind, space = ("kind",), ("namespace",)
    sources: tuple[tuple[str, str, tuple[str, ...], Callable[[Term], Samples]], ...] = (
        ("queue_depth", "Workspaces that wait for a pass", (), lambda term: {(): len(term.queue)}),
        ("queue_working", "Workspaces looked at", (), lambda term: {(): len(term.queue.working)}),
        ("objects", "Objects known", kind, _objects),
        ("watch_silence_seconds", "Since the API server last told anything", kind, _silence),
        ("orphans", "Claims whose Workspace is gone", (), lambda term: {(): len(term.orphans())}),
        ("nodes", "Nodes asked for by claims", space, partial(_amounts, "nodes")),
        ("gpus", "GPUs of the nodes asked for", space, partial(_amounts, "gpus")),
        ("cost_per_hour", "Their cost, where a price is known", space, partial(_amounts, "cost_per_hour")),
    )  # fmt: skip
    for name, text, labels, read in sources:
        metrics.watch(name, text, labels, partial(of, read))
    metrics.watch(
        "watch_restarts", "Why watching began anew", ("kind", "cause"), partial(of, _restarts), total=True
    )


async def serve(settings: Settings) -> int:
    """Serve until a signal; return the process's exit code."""
    stop = stop_signals()
    metrics = Metrics()
    configuration = Configuration(settings.fleet, metrics.reloaded)
    try:
        configuration.load()
        place = listen(settings.host, settings.port)
    except BadConfiguration as problem:
        log.error("the fleet file cannot be used: %s", problem)
        return EXIT_CONFIGURATION
    except OSError as problem:
        log.error("cannot listen on %s port %d: %s", settings.host, settings.port, problem)
        return EXIT_PORT
    try:
        client = await Client.connect(settings.kubeconfig, user_agent="berth-watcher")
    except KubeError as problem:
        log.error("%s", problem)
        place.close()
        return EXIT_CREDENTIALS
    watcher = Watcher(client, settings, configuration, metrics)
    async with server.serving(server.Pages(metrics, lambda: watcher.missing), place):
        log.info("serving", extra=fields(host=settings.host, port=place.getsockname()[1]))
        try:
            return await _until(watcher, stop)
        finally:
            await client.close()


async def _until(watcher: Watcher, stop: asyncio.Event) -> int:
    running, stopping = asyncio.create_task(watcher.run()), asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done() and (problem := running.exception()) is not None:
        log.error("given up: %s", problem, exc_info=problem)
        return EXIT_BUG
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    log.info("stopped")
    return 0


def _objects(term: Term) -> Samples:
    return {(one.resource.kind,): len(one.store) for one in term.cache.reflectors}


def _restarts(term: Term) -> Samples:
    return {
        (one.resource.kind, cause): count
        for one in term.cache.reflectors
        for cause, count in one.restarts.items()
    }


def _silence(term: Term) -> Samples:
    now = time.monotonic()
    return {(one.resource.kind,): now - one.heard_at for one in term.cache.reflectors if one.served}


def _amounts(name: str, term: Term) -> Samples:
    return {(namespace,): getattr(amount, name) for namespace, amount in term.amounts().items()}
