"""The real llama-server with a projector: started, asked about pictures, and its log read."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.serving import tiny_projectors
from tests.serving.processes import end, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.serving.conftest import Engine

ANSWER_SECONDS = 120
_BUFFER = re.compile(r"reserve_compute_meta: +(\S+) compute buffer size = +([\d.]+) MiB")


@dataclass(frozen=True)
class Server:
    """A llama-server that takes images."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(self, pictures: Iterable[bytes], tokens: int = 2) -> dict[str, Any]:
        """What it answers about pictures; its HTTP errors are raised."""
        parts = [
            {"type": "image_url", "image_url": {"url": tiny_projectors.address(picture)}}
            for picture in pictures
        ]
        body = {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}],
            "max_tokens": tokens,
            "temperature": 0,
        }
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def stop(self) -> None:
        """End it as a pod ends, so that it tells what it freed."""
        self.process.terminate()
        self.process.wait(ANSWER_SECONDS)

    @property
    def peak(self) -> int:
        """The most bytes of memory that it had at one time."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    @property
    def buffers(self) -> dict[str, str]:
        """The projector's compute buffers that the log tells, in MiB: `GPU` and `CPU`."""
        text = self.log.read_text(errors="replace")  # it also tells what the model says
        return {"CPU" if place == "CPU" else "GPU": size for place, size in _BUFFER.findall(text)}


@contextlib.contextmanager
def serving(
    engine: Engine, folder: Path, kind: str, *options: str, gpu: bool = False, text: Path | None = None,
    width: int = tiny_projectors.TEXT_WIDTH,
) -> Iterator[Server]:  # fmt: skip
    """Run one with a tiny projector, which makes its buffers for the first image that comes.

    Args:
        engine: the real one.
        folder: for the files and the log.
        kind: of the projector.
        options: more of llama-server's.
        gpu: whether an RPC server stands in for a GPU.
        text: the model, a tiny one where there is none.
        width: of what that model takes.
    """
    port, rpc_port = free_port(), free_port()
    command = [
        str(engine.program("llama-server")), "--port", str(port), "--ctx-size", "8192", "--parallel", "1",
        "--batch-size", "4096", "--ubatch-size", "4096", "--flash-attn", "on", "--fit", "off",
        "--model", str(text or tiny_projectors.write_text(folder / "text.gguf", width)),
        "--mmproj", str(tiny_projectors.write(folder / "mmproj.gguf", kind, width)),
        "--no-warmup", "--jinja", "--log-verbosity", "5", *options,
    ]  # fmt: skip
    log = folder / "server.log"
    with contextlib.ExitStack() as stack, log.open("wb") as stream:

        def run(*command: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                command, env=engine.environment, stdout=stream, stderr=stream, start_new_session=True
            )
            stack.callback(end, process)
            return process

        if gpu:
            run(str(engine.program("ggml-rpc-server")), "-H", "127.0.0.1", "-p", str(rpc_port))
            wait_until(lambda: _listens(rpc_port), "the device listens")
            command += ["--rpc", f"127.0.0.1:{rpc_port}"]
        process = run(*command)
        wait_until(lambda: _healthy(port) or process.poll() is not None, "llama-server is ready")
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        yield Server(process, port, log)


def _healthy(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        return bool(answer.status == 200)
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
