"""A replica on several nodes as the charts start it: the front with its engine, and workers on their own.

Each worker has an address of its own on loopback and the usual ports; the front is told of them by
`--wait-for`, as in the leader's pod.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from berth import argv, plans
from tests.serving.processes import RPC_PORT, end, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine
    from tests.serving.processes import Node

pytestmark = pytest.mark.slow
ENDPOINTS = (f"127.0.0.2:{RPC_PORT}", f"127.0.0.3:{RPC_PORT}")


@dataclass
class Front:
    """The leader's front."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def readiness(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, {}

    @property
    def ready(self) -> bool:
        return self.readiness[0] == 200


@dataclass
class Stream:
    """A streamed answer, read in a thread of its own."""

    front: Front
    tokens: int
    lines: list[bytes] = field(default_factory=list)
    ended: float = 0.0

    def __enter__(self) -> Stream:
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)

    def _read(self) -> None:
        body = {"prompt": "The sea", "max_tokens": self.tokens, "stream": True, "ignore_eos": True}
        request = urllib.request.Request(
            f"{self.front.url}/v1/completions",
            json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=60) as answer:
            for line in answer:
                self.lines.append(line)
        self.ended = time.monotonic()

    @property
    def text(self) -> str:
        return b"".join(self.lines).decode()


@pytest.fixture
def front(engine: Engine, model_file: Path, tmp_path: Path) -> Iterator[Front]:
    """A leader of two workers, started before either of them."""
    server = plans.Server(
        model="smollm2", alias="smollm2", quantization="Q4_1", context_size=4096, parallel=2, gpus=2,
        gpu_layers=31, tensor_split=(1, 1),
    )  # fmt: skip
    command = argv.llama_server(server, str(model_file), ENDPOINTS)
    command[command.index("--port") + 1] = str(free_port())
    port = free_port()
    waited = [part for endpoint in ENDPOINTS for part in ("--wait-for", endpoint)]
    log = tmp_path / "front.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "serving", "--port", str(port), "--metrics-port", str(free_port()),
                "--model", str(model_file), *waited, "--", *command,
            ],
            env=engine.environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    yield Front(process, f"http://127.0.0.1:{port}", log)
    end(process)


def test_a_group_loads_when_whole_and_outlives_a_dead_worker(
    front: Front, start_worker: Callable[..., Node]
) -> None:
    start_worker("127.0.0.2")
    wait_until(lambda: "waiting for workers" in str(front.readiness[1]), "the leader waits", 20)
    assert front.readiness[0] == 503
    second = start_worker("127.0.0.3")
    wait_until(lambda: front.ready, "the group is ready", 60)

    with Stream(front, 3000) as stream:
        wait_until(lambda: len(stream.lines) > 4, "the answer begins")
        killed = time.monotonic()
        end(second.process)
        wait_until(lambda: stream.ended > 0, "the answer ends", 15)
    assert stream.ended - killed < 15
    assert '"error"' in stream.text
    assert not front.ready
    wait_until(lambda: "waiting for workers" in str(front.readiness[1]), "the leader waits again", 20)
    assert front.process.poll() is None

    start_worker("127.0.0.3")
    wait_until(lambda: front.ready, "the group is whole again", 60)
    with Stream(front, 4) as stream:
        pass
    assert "data: [DONE]" in stream.text
    assert '"error"' not in stream.text


def test_a_group_told_to_stop_finishes_its_answers(front: Front, start_worker: Callable[..., Node]) -> None:
    nodes = [start_worker("127.0.0.2"), start_worker("127.0.0.3")]
    wait_until(lambda: front.ready, "the group is ready", 60)
    with Stream(front, 60) as stream:
        wait_until(lambda: len(stream.lines) > 4, "the answer begins")
        # the whole group is deleted at once, as a rollout does
        front.process.terminate()
        for node in nodes:
            node.process.terminate()
    assert "data: [DONE]" in stream.text
    assert '"error"' not in stream.text
    assert front.process.wait(30) == 0
    assert [node.process.wait(30) for node in nodes] == [0, 0]
