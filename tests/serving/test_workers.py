"""Workers and their leader as real processes, each with an address of its own on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from berth import argv, plans
from serving import sockets, workers
from serving.group import Group
from tests.serving.processes import (
    DEADLINE_SECONDS,
    METRICS_PORT,
    RPC_PORT,
    Node,
    end,
    free_port,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = pytest.mark.slow


@pytest.fixture
def lead(engine: Engine, model_file: Path, tmp_path: Path) -> Iterator[Callable[..., Leader]]:
    """Start leaders: the bare engine with the plan's command line; they end with the test."""
    with contextlib.ExitStack() as stack:

        def started(*endpoints: str) -> Leader:
            port = free_port()
            command = argv.llama_server(server(len(endpoints)), str(model_file), endpoints)
            command[command.index("--port") + 1] = str(port)
            with (tmp_path / "leader.log").open("ab") as output:
                process = subprocess.Popen(
                    command, env=engine.environment, stdout=output, stderr=output, start_new_session=True
                )
            stack.callback(end, process)
            return Leader(process, f"http://127.0.0.1:{port}")

        yield started


@dataclass
class Leader:
    """The engine that uses the workers."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def complete(self, tokens: int) -> dict[str, Any]:
        body = json.dumps({"prompt": "The sea", "n_predict": tokens, "ignore_eos": True}).encode()
        request = urllib.request.Request(
            f"{self.url}/completion", body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def server(nodes: int) -> plans.Server:
    """The settings of a replica whose model lies on its workers alone."""
    return plans.Server(
        model="smollm2", alias="smollm2", quantization="Q4_1", context_size=4096, parallel=1, gpus=nodes,
        gpu_layers=31, tensor_split=(1,) * nodes if nodes > 1 else (),
    )  # fmt: skip


def test_a_worker_is_healthy_while_its_rpc_server_listens(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2")
    wait_until(lambda: node.healthy, "a healthy worker")
    status, metrics = node.get("/metrics")
    assert status == 200
    assert "berth_worker_up 1\n" in metrics
    assert "berth_worker_leaders 0\n" in metrics
    assert node.get("/else")[0] == 404


def test_lifelines_are_few_and_come_back(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2")
    wait_until(lambda: node.healthy, "a healthy worker")
    asked = b"GET /lifeline HTTP/1.1\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            line = stack.enter_context(socket.create_connection((node.address, METRICS_PORT), 5))
            line.sendall(asked)
            assert line.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection((node.address, METRICS_PORT), 5) as one_more:
            one_more.sendall(asked)
            assert one_more.recv(12) == b"HTTP/1.1 503"
        assert node.healthy

    def answered() -> bool:
        with socket.create_connection((node.address, METRICS_PORT), 5) as again:
            again.sendall(asked)
            return again.recv(12) == b"HTTP/1.1 200"

    wait_until(answered, "a lifeline again", 10)


def test_a_worker_ends_when_its_rpc_server_died(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2")
    wait_until(lambda: node.healthy, "a healthy worker")
    os.kill(node.rpc_server, signal.SIGKILL)
    assert node.process.wait(5) == 1
    assert b"the RPC server ended with -9" in node.log.read_bytes()


def test_a_worker_without_the_program_ends_and_says_why(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "serving", "worker", "--metrics-host", "127.0.0.4",
            "--", str(tmp_path / "none"),
        ],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the worker cannot run" in done.stderr


def test_a_leader_waits_for_all_workers_and_learns_at_once_that_one_died(
    start_worker: Callable[..., Node],
) -> None:
    first = start_worker("127.0.0.2")

    async def led() -> str:
        endpoints = [first.endpoint, f"127.0.0.3:{RPC_PORT}"]
        async with Group(endpoints, METRICS_PORT) as group:
            ready = asyncio.ensure_future(group.ready())
            await asyncio.sleep(3)
            assert not ready.done()
            assert group.missing == [endpoints[1]]
            assert "1 of 2 workers are there; waiting for 127.0.0.3:50052" in group.progress
            second = start_worker("127.0.0.3")
            await asyncio.wait_for(ready, DEADLINE_SECONDS)
            broken = asyncio.ensure_future(group.broken())
            await asyncio.sleep(1.5)
            assert not broken.done()
            os.kill(second.rpc_server, signal.SIGKILL)
            return await asyncio.wait_for(broken, 3)

    assert asyncio.run(led()) == "worker 127.0.0.3:50052 ended"


def test_a_worker_that_came_back_is_another_one(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2")

    async def led() -> str:
        async with Group([node.endpoint], METRICS_PORT) as group:
            await asyncio.wait_for(group.ready(), DEADLINE_SECONDS)
            end(node.process)
            again = start_worker("127.0.0.2")
            await asyncio.to_thread(wait_until, lambda: again.healthy, "the worker again")
            # nobody asked meanwhile; what the engine kept there is lost all the same
            await asyncio.sleep(2)
            return await asyncio.wait_for(group.broken(), 5)

    assert asyncio.run(led()) == "worker 127.0.0.2:50052 restarted"


def test_a_silent_worker_is_gone(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2")

    async def led() -> str:
        async with Group([node.endpoint], METRICS_PORT, silence=2.5) as group:
            await asyncio.wait_for(group.ready(), DEADLINE_SECONDS)
            # a node that lost its network says no farewell
            os.kill(node.process.pid, signal.SIGSTOP)
            return await asyncio.wait_for(group.broken(), 6)

    assert asyncio.run(led()) == "worker 127.0.0.2:50052 said nothing for 2 s"


def test_an_rpc_server_that_accepts_nobody_is_started_anew(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2", "--patience", "2")
    wait_until(lambda: node.healthy, "a healthy worker")
    stuck = node.rpc_server
    # a leader that vanished with its node: its connection stays open and says nothing
    with socket.create_connection((node.address, RPC_PORT)):
        wait_until(lambda: "berth_worker_leaders 1\n" in node.get("/metrics")[1], "the old leader is served")
        with socket.create_connection((node.address, RPC_PORT)) as new:
            wait_until(lambda: "berth_worker_waiting 1\n" in node.get("/metrics")[1], "the new leader waits")
            wait_until(lambda: "restarts_total 1\n" in node.get("/metrics")[1], "a new RPC server")
            new.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert new.recv(1) == b""
    wait_until(lambda: node.healthy, "healthy again")
    assert node.rpc_server != stuck


def test_two_workers_serve_and_a_dead_one_is_told_before_anybody_hangs(
    start_worker: Callable[..., Node], lead: Callable[..., Leader]
) -> None:
    nodes = [start_worker("127.0.0.2"), start_worker("127.0.0.3")]

    async def led() -> None:
        async with Group([node.endpoint for node in nodes], METRICS_PORT) as group:
            await asyncio.wait_for(group.ready(), DEADLINE_SECONDS)
            leader = lead(*group.endpoints)
            await asyncio.to_thread(wait_until, lambda: leader.ready, "the model is loaded")
            answer = await asyncio.to_thread(leader.complete, 8)
            assert answer["tokens_predicted"] == 8
            assert all("berth_worker_leaders 1\n" in node.get("/metrics")[1] for node in nodes)
            running = asyncio.ensure_future(asyncio.to_thread(leader.complete, 4000))
            await asyncio.sleep(0.5)
            end(nodes[1].process)
            assert "127.0.0.3" in await asyncio.wait_for(group.broken(), 3)
            # the engine aborts by itself in the middle of an answer, and the front ends it otherwise
            with pytest.raises(OSError, match=r"."):
                await asyncio.wait_for(running, DEADLINE_SECONDS)
            end(leader.process)
            nodes[1] = start_worker("127.0.0.3")
            await asyncio.wait_for(group.ready(), DEADLINE_SECONDS)
            again = lead(*group.endpoints)
            await asyncio.to_thread(wait_until, lambda: again.ready, "the model is loaded again")
            assert (await asyncio.to_thread(again.complete, 4))["tokens_predicted"] == 4

    asyncio.run(led())


def test_a_worker_told_to_stop_serves_its_leader_to_the_end(
    start_worker: Callable[..., Node], lead: Callable[..., Leader]
) -> None:
    node = start_worker("127.0.0.2")
    wait_until(lambda: node.healthy, "a healthy worker")
    leader = lead(node.endpoint)
    wait_until(lambda: leader.ready, "the model is loaded")
    node.process.terminate()
    assert leader.complete(8)["tokens_predicted"] == 8
    assert node.process.poll() is None

    async def told() -> bool:
        async with Group([node.endpoint], METRICS_PORT) as group:
            await asyncio.wait_for(group.ready(), 5)
            return group.ending

    assert asyncio.run(told())
    end(leader.process)
    assert node.process.wait(10) == 0


def test_a_worker_without_a_leader_stops_at_once(start_worker: Callable[..., Node]) -> None:
    node = start_worker("127.0.0.2")
    wait_until(lambda: node.healthy, "a healthy worker")
    node.process.terminate()
    assert node.process.wait(5) == 0


def test_a_port_is_read_without_knocking() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.5", 0))
        port = listener.getsockname()[1]
        assert sockets.look(port, "127.0.0.5") == sockets.Port(False, 0, frozenset())
        listener.listen()
        with socket.create_connection(("127.0.0.5", port)) as client:
            found = sockets.look(port, "127.0.0.5")
            assert (found.listening, found.accepted, len(found.waiting)) == (True, 0, 1)
            accepted, _ = listener.accept()
            with accepted:
                assert sockets.look(port, "127.0.0.5") == sockets.Port(True, 1, frozenset())
                assert sockets.look(port) == sockets.Port(True, 1, frozenset())
                assert not sockets.look(port, "127.0.0.6").listening
            assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(argv.rpc_server(), ("0.0.0.0", 50052), id="the charts' command line"),
        pytest.param(["ggml-rpc-server", "-H", "10.0.0.1", "-p", "7"], ("10.0.0.1", 7), id="short flags"),
        pytest.param(["ggml-rpc-server"], ("127.0.0.1", 50052), id="the server's own defaults"),
    ],
)
def test_the_endpoint_stands_in_the_command_line(command: list[str], expected: tuple[str, int]) -> None:
    assert workers.endpoint(command) == expected
