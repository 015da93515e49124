"""The front as people start it, with the real engine behind it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.serving.processes import end, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.serving.conftest import Engine

START_SECONDS = 90.0
"""A loaded machine takes long to load even a small model."""
TIMEOUT_SECONDS = 200.0
"""Many busy processes beside it make the engine, whose threads wait for each other, slow beyond measure."""


@dataclass
class Front:
    """A running `python -m serving`."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def engine_pid(self) -> int | None:
        """The only child is the engine."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except FileNotFoundError:
            return None
        return int(children[0]) if children else None

    def get(self, path: str, port: int | None = None) -> tuple[int, str]:
        return self.request("GET", path, port=port)

    def post(self, path: str, data: Any, **headers: str) -> tuple[int, Any]:
        """Post JSON as curl does it: without a content type that fits."""
        status, text = self.request("POST", path, json.dumps(data).encode(), headers)
        return status, json.loads(text)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        port: int | None = None,
    ) -> tuple[int, str]:
        url = f"http://127.0.0.1:{port or self.port}{path}"
        request = urllib.request.Request(url, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, problem.read().decode()

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        _, text = self.get("/metrics", self.metrics_port)
        lines = [line for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/readyz")[0] == 200
        return False

    def wait_ready(self) -> None:
        wait_until(
            lambda: self.ready() or self.process.poll() is not None, "the front is ready", START_SECONDS
        )
        assert self.process.poll() is None, self.log

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def running(
    engine: Engine, model_file: Path, folder: Path, *arguments: str, wait: bool = True
) -> Iterator[Front]:
    """Run a front until the end of the test."""
    port, metrics_port = free_port(), free_port()
    command = [
        sys.executable, "-m", "serving", "--model", str(model_file), "--port", str(port),
        "--metrics-port", str(metrics_port), "--alias", "smol", *arguments,
    ]  # fmt: skip
    with started(command, engine.environment, folder) as (process, log):
        front = Front(process, port, metrics_port, log)
        if wait:
            front.wait_ready()
        yield front


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: dict[str, str], folder: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run a program and end it, and with it the engine that it may have started."""
    log = folder / "front.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    front = Front(process, 0, 0, log)
    try:
        yield process, log
    finally:
        engine = front.engine_pid
        end(process)
        if engine is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(engine, signal.SIGKILL)
