"""From the first byte of weights to the last byte of an answer: start, serve, drain, end.

SIGTERM makes the server unready, lets running and waiting requests finish for a bounded time and sends new
ones away with 503. Only then does the engine stop, which by itself would cut every stream at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import uvicorn
import uvloop

from serving import app, connections, metrics, tracing
from serving.engine import Engine, EngineFailed
from serving.gate import Gate
from serving.keys import KeyRing
from serving.limits import Limits
from serving.queueing import FairQueue
from serving.upstream import Upstream
from serving.weights import checking, extras
from serving.weights.errors import WeightsError, WrongHash, say_why
from serving.weights.extras import Kind
from serving.weights.stamps import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serving.settings import Settings

log = logging.getLogger(__name__)

EXIT_ENGINE = 70
"""The engine ended too often; sysexits.h calls it an internal software error."""
EXIT_PORT = 71
"""A port is taken."""
_LAST_WORDS_SECONDS = 2.0


class _Stopped(Exception):
    """The files need not be compared any more."""


class _Server(uvicorn.Server):
    """Leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings) -> int:
    """Serve until told to stop; return the process's exit code."""
    return uvloop.run(serve(settings))


async def serve(settings: Settings) -> int:
    """Serve until a signal, or until the engine is given up."""
    stop = _stop_signals()
    connections.Connection.most = connections.connections_at_most()
    try:
        sockets = [_listen(settings.host, settings.port)]
        if settings.metrics_port is not None:
            sockets.append(_listen(settings.host, settings.metrics_port))
    except OSError as problem:
        say_why(f"cannot listen on {settings.host}: {problem}")
        return EXIT_PORT
    return await _serve(settings, sockets, stop)


async def _serve(settings: Settings, sockets: list[socket.socket], stop: asyncio.Event) -> int:
    upstream = Upstream("127.0.0.1", settings.engine_port)
    measures = metrics.Metrics(settings.alias)
    queue = FairQueue(
        settings.slots, settings.queue, timeout=settings.queue_seconds, on_refusal=measures.refused
    )
    queue.close()
    engine = Engine(settings.command, upstream, on_ready=queue.open, on_down=queue.close)
    measures.observe(engine, queue)
    keys = KeyRing(settings.api_keys)
    if not keys.required:
        log.warning("no API keys: everybody who reaches %s:%d may ask", settings.host, settings.port)
    limits = Limits(settings.requests_per_minute, settings.tokens_per_minute)
    tracer = tracing.from_environment(os.environ, settings.alias)
    gate = Gate(keys, limits, queue, measures, engine, settings.bounds, tracer)
    applications: list[Any] = [
        app.create(gate, upstream, settings),
        metrics.application(measures, upstream),
    ]
    servers = [_server(application) for application, _ in zip(applications, sockets, strict=False)]
    listening = [
        asyncio.create_task(server.serve([place])) for server, place in zip(servers, sockets, strict=True)
    ]
    watching = asyncio.create_task(keys.watch())
    running = asyncio.create_task(_run(engine, measures, settings))
    stopping = asyncio.create_task(stop.wait())
    code = 0
    try:
        await asyncio.wait({running, stopping, *listening}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            code = _why(running)
            gate.draining = True
        else:
            stop.clear()
            await drain(gate, upstream, settings.drain_seconds, stop)
    finally:
        watching.cancel()
        stopping.cancel()
        for server in servers:
            server.should_exit = True
        await asyncio.wait(listening, timeout=_LAST_WORDS_SECONDS)
        await engine.stop()
        running.cancel()
        await asyncio.wait({running})
        if tracer is not None:
            tracer.close()
    return code


async def drain(gate: Gate, upstream: Upstream, seconds: float, hurry: asyncio.Event) -> None:
    """Let what is inside finish, for so many seconds or until a second signal; tell the rest honestly."""
    gate.draining = True
    log.info("draining: %d requests may finish within %g s", gate.active, seconds)
    idle = asyncio.create_task(gate.idle())
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({idle, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if not idle.done():
        log.warning("draining: %d requests are cut off", gate.active)
        upstream.fail("the server is shutting down and could wait no longer")
        await asyncio.wait({idle}, timeout=_LAST_WORDS_SECONDS)
    idle.cancel()
    hurried.cancel()


async def _run(engine: Engine, measures: metrics.Metrics, settings: Settings) -> None:
    """Compare all files with their sha256, where one is known, and only then load them."""
    with contextlib.suppress(_Stopped):
        await _check(engine, measures, settings)
        await engine.run()


async def _check(engine: Engine, measures: metrics.Metrics, settings: Settings) -> None:
    def go_on() -> None:
        if engine.stopping:  # a thread ends by itself or not at all, and the process would wait for it
            raise _Stopped

    def show(done: int, size: int) -> None:
        go_on()
        engine.output.progress = done / size

    engine.state = "checking weights"
    checked = await asyncio.to_thread(
        checking.check, settings.model, settings.sha256, image=settings.image, progress=show
    )
    measures.weights(checked.state)
    if checked.state is State.WRONG:
        raise WrongHash(checked.reason)
    log.info("weights: %s: %s", checked.state, checked.reason)
    for extra in settings.extras:
        beside = await asyncio.to_thread(extras.check, extra, lambda *_: go_on())
        log.info("%s: %s: %s", extra.kind, beside.state, beside.reason)
        if extra.kind is Kind.PROJECTOR:
            measures.projector(beside.state)
            engine.projector = beside.state
    engine.weights = checked.state


def _why(running: asyncio.Task[None]) -> int:
    try:
        running.result()
    except EngineFailed as problem:
        say_why(f"the engine is given up: {problem}")
        return EXIT_ENGINE
    except WeightsError as problem:
        say_why(str(problem))
        return problem.exit_code
    return 0


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _server(application: Any) -> uvicorn.Server:
    config = uvicorn.Config(
        application,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=int(connections.IDLE_SECONDS),
        timeout_graceful_shutdown=1,
        http=connections.Connection,
    )
    return _Server(config)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048, reuse_port=False)
