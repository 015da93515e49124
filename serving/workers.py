"""A worker of a replica on several nodes: the engine's RPC server, its health, and a lifeline for the leader.

    python -m serving worker --metrics-port 9090 -- ggml-rpc-server --host 0.0.0.0 --port 50052 --cache

`/healthz` answers 200 while the RPC server listens. `/lifeline` is an endless answer with one line a second;
it names the RPC server's instance, and it ends when that ends, so that the leader knows at once that what it
keeps on this node is gone. An RPC server that accepts nobody any more, because its old leader vanished
without a word, is started anew. When the RPC server ends by itself the worker ends too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from berth import labels
from serving import devices, sockets

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("serving.worker")

BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 30.0
"""How long a leader may stand unaccepted; an RPC server still computes for its last one meanwhile."""
GRACE_SECONDS = 140.0
"""How long a worker serves on after SIGTERM while its leader drains; less than the pod's own grace."""
_REQUEST_SECONDS = 5.0
_MAX_LIFELINES = 16
"""There is one leader; more than one lifeline is a leader that was replaced, or somebody who plays."""


@dataclass
class Worker:
    """Runs one RPC server and tells how it is."""

    command: Sequence[str]
    metrics_port: int = labels.METRICS_PORT
    metrics_host: str = "0.0.0.0"
    patience: float = PATIENCE_SECONDS
    grace: float = GRACE_SECONDS
    instance: str = ""
    ending: bool = False
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = None
    _replaced: bool = False
    _lifelines: int = 0
    _waiting_since: dict[str, float] = field(default_factory=dict)
    _terminated: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.host, self.port = endpoint(self.command)

    async def run(self) -> int:
        """Serve until a signal, or until the RPC server ends; return the exit status."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._terminated.set)
        server = await asyncio.start_server(self._answer, self.metrics_host, self.metrics_port)
        try:
            while True:
                await self._start()
                code = await self._until_ended()
                if not self._replaced or self.ending:
                    return code
                self._replaced = False
                self.restarts += 1
        finally:
            server.close()

    @property
    def state(self) -> sockets.Port:
        """What the kernel says of the RPC port."""
        return sockets.look(self.port, self.host)

    @property
    def healthy(self) -> bool:
        """Whether the RPC server runs and listens."""
        running = self._process is not None and self._process.returncode is None
        return running and self.state.listening

    async def _start(self) -> None:
        if problem := await devices.missing(self.command):
            raise OSError(problem)
        self._waiting_since.clear()
        self._process = await asyncio.create_subprocess_exec(*self.command)
        self.instance = secrets.token_hex(8)
        log.info("the RPC server runs as process %d, instance %s", self._process.pid, self.instance)

    async def _until_ended(self) -> int:
        """Wait for the RPC server's end or for a signal, and look after who waits at its door."""
        assert self._process is not None
        ended = asyncio.ensure_future(self._process.wait())
        asked = asyncio.ensure_future(self._terminated.wait())
        try:
            while not ended.done() and not asked.done():
                await asyncio.wait((ended, asked), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not ended.done() and self._is_stuck():
                    log.error("nobody was accepted for %.0f s: the RPC server is started anew", self.patience)
                    self._replaced = True
                    self._process.kill()
                    await ended
            if asked.done() and not ended.done():
                await self._drain(ended)
                return 0
            code = ended.result()
            if not self._replaced:
                log.error("the RPC server ended with %d", code)
            # a worker whose server is gone has failed, whatever the server says
            return code if code > 0 else 1
        finally:
            ended.cancel()
            asked.cancel()

    def _is_stuck(self) -> bool:
        """Whether somebody waits for longer than the patience to be accepted."""
        now = time.monotonic()
        waiting = self.state.waiting
        self._waiting_since = {one: self._waiting_since.get(one, now) for one in waiting}
        return any(now - since > self.patience for since in self._waiting_since.values())

    async def _drain(self, ended: asyncio.Future[int]) -> None:
        """Serve on while the leader is connected, within the grace; then end the RPC server."""
        assert self._process is not None
        self.ending = True
        deadline = time.monotonic() + self.grace
        while self.state.accepted and not ended.done() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(ended), 5)
        except TimeoutError:
            self._process.kill()
            await ended

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; the connection is closed after it."""
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = await reader.readline()
                while (await reader.readline()).strip():
                    pass
            words = request.decode("latin-1").split()
            if len(words) < 2 or words[0] != "GET":
                await _respond(writer, 405, "only GET\n")
            elif words[1] in ("/healthz", "/readyz"):
                healthy = self.healthy
                await _respond(writer, 200 if healthy else 503, "ok\n" if healthy else "no RPC server\n")
            elif words[1] == "/metrics":
                await _respond(writer, 200, self._metrics())
            elif words[1] == "/lifeline" and self._lifelines < _MAX_LIFELINES:
                self._lifelines += 1
                try:
                    await self._beat(writer)
                finally:
                    self._lifelines -= 1
            elif words[1] == "/lifeline":
                await _respond(writer, 503, "too many lifelines\n")
            else:
                await _respond(writer, 404, "unknown path\n")
        writer.close()

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        """One line a second for as long as this instance of the RPC server lives."""
        instance = self.instance
        writer.write(_head(200, "application/jsonl"))
        while self.instance == instance and self._process is not None and self._process.returncode is None:
            beat = {"instance": instance, "ready": self.healthy, "ending": self.ending}
            writer.write(f"{json.dumps(beat)}\n".encode())
            await asyncio.wait_for(writer.drain(), _REQUEST_SECONDS)
            # its end must not wait for the next beat
            ended = asyncio.ensure_future(self._process.wait())
            await asyncio.wait((ended,), timeout=BEAT_SECONDS)
            ended.cancel()

    def _metrics(self) -> str:
        state = self.state
        lines = (
            ("berth_worker_up", "gauge", "Whether the RPC server runs and listens.", int(self.healthy)),
            ("berth_worker_leaders", "gauge", "Leaders that are connected.", state.accepted),
            ("berth_worker_waiting", "gauge", "Leaders not accepted yet.", len(state.waiting)),
            ("berth_worker_restarts_total", "counter", "Starts anew of a stuck RPC server.", self.restarts),
        )
        return "".join(
            f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n"
            for name, kind, text, value in lines
        )


def endpoint(command: Sequence[str]) -> tuple[str, int]:
    """Return the address at which an RPC server's command line listens.

    >>> endpoint(["ggml-rpc-server", "--host", "0.0.0.0", "--port", "50052", "--cache"])
    ('0.0.0.0', 50052)
    """
    host, port = "127.0.0.1", labels.RPC_PORT
    for flag, value in itertools.pairwise(command):
        if flag in ("-H", "--host"):
            host = value
        elif flag in ("-p", "--port"):
            port = int(value)
    return host, port


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker; what follows `--` is the RPC server's own command line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, command = (
        (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    )
    parser = argparse.ArgumentParser(
        prog="python -m serving worker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--metrics-host", default="0.0.0.0", help="address of /healthz, /metrics, /lifeline")
    parser.add_argument("--metrics-port", type=int, default=labels.METRICS_PORT)
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS",
        help="how long a leader may wait to be accepted (default %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--grace", type=float, default=GRACE_SECONDS, metavar="SECONDS",
        help="how long to serve a leader on after SIGTERM (default %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(own)
    if not command:
        parser.error("write the RPC server's command line after `--`")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    worker = Worker(
        command, options.metrics_port, options.metrics_host, patience=options.patience, grace=options.grace
    )
    try:
        return asyncio.run(worker.run())
    except OSError as error:
        log.error("the worker cannot run: %s", error)
        return 1


async def _respond(writer: asyncio.StreamWriter, status: int, text: str) -> None:
    writer.write(_head(status, "text/plain; version=0.0.4") + text.encode())
    await asyncio.wait_for(writer.drain(), _REQUEST_SECONDS)


def _head(status: int, kind: str) -> bytes:
    reasons = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
    lines = f"HTTP/1.1 {status} {reasons[status]}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    return lines.encode()


if __name__ == "__main__":
    raise SystemExit(main())
