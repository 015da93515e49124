"""From the first certificate to the last answer: start, serve, end.

Ready means: certificates and configuration are loaded, and a review sent to ourselves over TLS came back. It
does not mean to lead, and neither probe asks the API server. SIGTERM makes the replica unready at once; it
serves on, asking each caller to close its connection, until nobody called for a while. Only then does the
port close, so an API server that has not heard of the end yet still gets its answer.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop
from fastapi import FastAPI, Response

from kube.configuration import BadConfiguration, Configuration
from kube.logs import fields
from kube.serving import listen, stop_signals
from webhook import app, sockets
from webhook.admission import Context
from webhook.certificates.tls import LiveTls
from webhook.folders import FolderSource
from webhook.metrics import Metrics
from webhook.selfcheck import call_myself
from webhook.traffic import Traffic
from webhook.verdicts import Memory

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from berth.catalog import Catalog
    from webhook.cluster import Cluster
    from webhook.settings import Settings

log = logging.getLogger(__name__)

EXIT_PORT, EXIT_CONFIGURATION, EXIT_CERTIFICATES = 71, 78, 73
_SELF_CALL_SECONDS = 0.3
_LAST_SECONDS = 15.0
_COLLECT_SECONDS, _IDLE_SECONDS = 600.0, 1.0
"""Between two looks for garbage that is old, and without a request before one."""


class State:
    """Whether this replica wants requests, and why not."""

    def __init__(self, traffic: Traffic, metrics: Metrics) -> None:
        self._traffic = traffic
        self._metrics = metrics
        self.missing = ["certificates", "a call to ourselves"]

    def met(self, condition: str) -> None:
        """Note that one more condition holds."""
        if condition in self.missing:
            self.missing.remove(condition)
        self.show()

    def show(self) -> None:
        """Bring the metric up to date."""
        self._metrics.ready.set(self.ready)

    @property
    def ready(self) -> bool:
        """Whether new requests are wanted."""
        return not self.missing and not self._traffic.draining

    @property
    def text(self) -> str:
        """Why, in one line."""
        if self._traffic.draining:
            return "draining\n"
        return f"waiting for {' and '.join(self.missing)}\n" if self.missing else "ready\n"


def run(settings: Settings) -> int:
    """Serve until told to stop; return the process's exit code."""
    return uvloop.run(serve(settings))


async def serve(settings: Settings) -> int:
    """Serve until a signal."""
    stop = stop_signals()
    sockets.allow_many_connections()
    metrics, traffic = Metrics(), Traffic()
    configuration = Configuration(settings.fleet, metrics.reloaded)
    places: list[socket.socket] = []
    try:
        configuration.load()
        prepare(configuration.catalog)
        places.append(listen(settings.host, settings.port))
        if settings.plain_port is not None:
            places.append(listen(settings.host, settings.plain_port))
    except BadConfiguration as problem:
        log.error("the fleet file cannot be used: %s", problem)
        return EXIT_CONFIGURATION
    except OSError as problem:
        for place in places:
            place.close()
        log.error("cannot listen on %s: %s", settings.host, problem)
        return EXIT_PORT
    return await _Serving(settings, configuration, metrics, traffic, stop).run(places)


class _Serving:
    """What runs side by side, and in which order it ends."""

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        metrics: Metrics,
        traffic: Traffic,
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._metrics = metrics
        self._traffic = traffic
        self._stop = stop
        self._state = State(traffic, metrics)
        self._tls = LiveTls()
        self._memory = Memory()
        self._source = _source(settings, self._tls, metrics)

    async def run(self, places: list[socket.socket]) -> int:
        """Serve until stopped; return the exit code."""
        settings = self._settings
        admissions = app.Admissions(self._context, self._metrics, self._traffic)
        secure = sockets.server(app.create(admissions), self._tls.context)
        self._metrics.watch("connections", "Open connections of the HTTPS port", lambda: secure.connections)
        self._metrics.watch("workspaces_cached", "Workspaces that budgets count", self._count)
        self._metrics.watch(
            "requests_in_flight", "Requests not answered yet", lambda: self._traffic.in_flight
        )
        background = [asyncio.create_task(self._refresh()), asyncio.create_task(self._source.run())]
        plain: list[tuple[sockets.Server, asyncio.Task[None]]] = []
        if len(places) > 1:
            server = sockets.server(self._plain())
            plain.append((server, asyncio.create_task(server.serve([places[1]]))))
        serving = asyncio.create_task(self._start(secure, places[0]))
        stopping = asyncio.create_task(self._stop.wait())
        code = 0
        done: set[asyncio.Task[Any]] = set()
        try:
            watched = {serving, stopping, *background}
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if stopping not in done:
                code = _why(done)
            await self._drain()
        finally:
            secure.should_exit = True
            if not secure.started:
                serving.cancel()
            await asyncio.wait({serving}, timeout=_LAST_SECONDS)
            await self._source.leave()
            await _end({stopping, *background} - done)
            for server, task in plain:
                server.should_exit = True
                await asyncio.wait({task}, timeout=_LAST_SECONDS)
        log.info("stopped", extra=fields(port=settings.port))
        return code

    async def _start(self, secure: sockets.Server, place: socket.socket) -> None:
        """Listen as soon as there is a certificate to show."""
        await self._source.ready()
        self._state.met("certificates")
        checking = asyncio.create_task(self._check(place))
        try:
            await secure.serve([place])
        finally:
            await _end([checking])

    async def _check(self, place: socket.socket) -> None:
        host, port = place.getsockname()[:2]
        told = ""
        while problem := await call_myself(host, port, self._settings.names[0], self._tls):
            if problem != told:
                log.warning("a call to ourselves failed: %s", problem)
                told = problem
            await asyncio.sleep(_SELF_CALL_SECONDS)
        self._state.met("a call to ourselves")
        log.info("ready", extra=fields(host=host, port=port))

    async def _drain(self) -> None:
        """Unready first, then serve on until it is quiet; a second signal hurries."""
        self._stop.clear()
        self._traffic.draining = True
        self._state.show()
        await self._source.step_down()
        log.info("draining")
        settings = self._settings
        if not await self._traffic.quiet(settings.quiet_s, settings.drain_s, self._stop):
            log.warning("somebody still calls; the port closes anyway")

    async def _refresh(self) -> None:
        collect = time.monotonic() + _COLLECT_SECONDS
        while True:
            await asyncio.sleep(self._settings.poll_s)
            await asyncio.to_thread(self._configuration.refresh)
            if time.monotonic() > collect and self._traffic.quiet_s > _IDLE_SECONDS:
                gc.collect()
                collect = time.monotonic() + _COLLECT_SECONDS

    def _context(self) -> Context:
        return Context(
            catalog=self._configuration.catalog,
            fleet=self._configuration.fleet,
            workspaces=self._source.workspaces,
            memory=self._memory,
        )

    def _count(self) -> float:
        return float(sum(1 for _ in self._source.workspaces()))

    def _plain(self) -> FastAPI:
        pages = FastAPI(title="berth admission, plain", openapi_url=None, docs_url=None, redoc_url=None)

        async def healthz() -> Response:
            """Say that the process answers; nothing else ends it."""
            return Response("ok\n", 200, media_type="text/plain")

        async def readyz() -> Response:
            """Say whether reviews are wanted."""
            return Response(self._state.text, 200 if self._state.ready else 503, media_type="text/plain")

        async def metrics() -> Response:
            """Return what Prometheus reads."""
            return Response(self._metrics.text(), 200, media_type="text/plain; version=0.0.4; charset=utf-8")

        pages.add_api_route("/healthz", healthz, methods=["GET"])
        pages.add_api_route("/readyz", readyz, methods=["GET"])
        pages.add_api_route("/metrics", metrics, methods=["GET"])
        return pages


def _source(settings: Settings, tls: LiveTls, metrics: Metrics) -> FolderSource | Cluster:
    if settings.standalone:
        return FolderSource(settings, tls, metrics)
    # Whoever tries it without a cluster need not load a client for one.
    from webhook.cluster import Cluster

    return Cluster(settings, tls, metrics)


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(outcome, Exception):
            log.warning("ended with %s: %s", type(outcome).__name__, outcome)


def _why(done: Iterable[asyncio.Task[Any]]) -> int:
    for task in done:
        problem = task.exception()
        if problem is not None:
            log.error("given up: %s: %s", type(problem).__name__, problem)
            return EXIT_CERTIFICATES
    return 0


def prepare(catalog: Catalog) -> None:
    """Read every preset now, so that no first admission pays for it, and spare the collector what stays.

    The catalogue stays for good, and what a plan takes meanwhile is freed by itself: looking through both
    again and again took half of the planner's time. The oldest generation is looked through when nobody
    waits; see `_refresh`.
    """
    for model in catalog.models:
        model.layout(model.default_quantization)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 5, 1_000)
    # A plan is worked out beside the event loop, which is to get its turn soon.
    sys.setswitchinterval(0.001)
