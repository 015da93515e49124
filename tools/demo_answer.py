"""The demo's last step: the command of a rendered pod serves a real model, and `/chat` answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from tools.demo_admission import free_port
from tools.demo_engine import ENGINE, model
from tools.demo_steps import ROOT, StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.demo_steps import Steps

QUESTION = "The capital of France is"
PORT = 5000
START_SECONDS = 120


@contextmanager
def running(steps: Steps, logs: Path) -> Iterator[tuple[str, str]]:
    """Serve and ask; yield the address and the answer, and serve on until the block ends."""
    file = model()
    if file is None:
        raise StepFailed("the small model is not installed")
    steps.title(
        "The rendered pod's own command serves the model, with this machine's file, ports and processor"
    )
    manifest = steps.folder / "rendered" / "small" / "deployment-small.yaml"
    command = pod_command(yaml.safe_load(manifest.read_text()), file, free_port(PORT))
    steps.command(" ".join(command).replace(str(file), file.name))
    address = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    logs.mkdir(parents=True, exist_ok=True)
    with _process(command, logs / "serving.log") as process:
        with steps.console.status("loading the model"):
            _wait(f"{address}/readyz", process, logs / "serving.log")
        body = json.dumps({"prompt": QUESTION, "max_length": 24, "do_sample": False})
        steps.command(f"curl -X POST {address}/chat -d '{body}'")
        answer = " ".join(_chat(f"{address}/chat", body).split())
        steps.say(json.dumps({"Result": answer}, ensure_ascii=False))
        yield address, answer


def pod_command(deployment: dict[str, Any], file: Path, port: int) -> list[str]:
    """Return the serving container's own command, with this machine's file, ports and processor."""
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    command = [*container["command"], *container["args"]]
    cut = command.index("--")
    front, engine = command[:cut], command[cut:]
    replaced = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--metrics-port": str(free_port()),
        "--model": str(file),
    }
    for flag, value in replaced.items():
        front[front.index(flag) + 1] = value
    for flag in ("--plan", "--api-keys"):  # the pod's own mounts
        if flag in front:
            place = front.index(flag)
            del front[place : place + 2]
    own = {
        "--model": str(file),
        "--port": str(free_port()),
        "--n-gpu-layers": "0",
        "--flash-attn": "off",
        "--ctx-size": "4096",
    }
    for flag, value in own.items():
        engine[engine.index(flag) + 1] = value
    return [*front, "--ui", *engine]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{ENGINE / 'bin'}:{os.environ['PATH']}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command[1:]],
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise StepFailed(f"the model was not ready within {START_SECONDS} s:\n{log.read_text()[-2000:]}")


def _chat(url: str, body: str) -> str:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
        return str(json.load(answer)["Result"])
