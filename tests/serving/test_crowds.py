"""The real front and engine with few files to open, and a crowd that only holds connections."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.serving import fronts
from tests.serving.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FILES, CROWD, STALL_SECONDS = 256, 400, 8


def test_a_crowd_that_asks_nothing_shuts_nobody_out(engine: Engine, model_file: Path, tmp_path: Path) -> None:
    """Without a bound no file was left for the front's own connections, and the engine seemed to hang."""
    port, metrics_port = free_port(), free_port()
    command = [
        "/bin/sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh",
        sys.executable, "-m", "serving", "--model", str(model_file), "--port", str(port), "--alias", "smol",
        "--metrics-port", str(metrics_port), "--context-size", "512", "--stall-seconds", str(STALL_SECONDS),
    ]  # fmt: skip
    with (
        fronts.started(command, engine.environment, tmp_path) as (process, log),
        contextlib.ExitStack() as crowd,
    ):
        front = fronts.Front(process, port, metrics_port, log)
        front.wait_ready()
        for _ in range(CROWD):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        time.sleep(2 * STALL_SECONDS)
        data = json.dumps({"prompt": "Once", "n_predict": 2}).encode()
        address = ("127.0.0.1", port)
        with socket.create_connection(address, timeout=60) as asking:
            head = f"POST /completion HTTP/1.1\r\nconnection: close\r\ncontent-length: {len(data)}\r\n\r\n"
            asking.sendall(head.encode() + data)
            assert asking.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert front.metric("berth_engine_restarts") == 0
        assert "it hangs" not in front.log
