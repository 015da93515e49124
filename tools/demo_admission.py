"""The demo's admission step: the real webhook over TLS refuses a Workspace, and takes the mended one."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from tools import demo_fleet
from tools.demo_steps import ROOT, StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.demo_steps import Steps

START_SECONDS = 30
PORT = 8443


@contextmanager
def running(steps: Steps, folder: Path) -> Iterator[None]:
    """Show a refusal and a Workspace that is taken; the webhook answers until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(PORT)
    steps.title("The cluster's own gate says the same, over TLS")
    command = ["-m", "webhook", "--standalone", "--port", str(port), "--cert-dir", "certificates"]
    steps.command(f"cd {folder} && python {' '.join(command)} &")
    with _webhook(command, folder) as authority:
        refused = _ask(steps, port, authority, "too-small", demo_fleet.TOO_SMALL)
        steps.say(f"refused: {refused.get('status', {}).get('message')}")
        steps.command(f"sed s/Standard_NC6s_v3/{demo_fleet.FITS}/ too-small.json > mended.json")
        mended = demo_fleet.TOO_SMALL.replace("Standard_NC6s_v3", demo_fleet.FITS)
        taken = _ask(steps, port, authority, "mended", mended)
        if refused["allowed"] or not taken["allowed"]:
            raise StepFailed("the webhook did not answer as it should")
        steps.say("taken: it fits")
        for warning in taken.get("warnings", []):
            steps.say(f"warning: {warning}")
        yield


def free_port(wanted: int = 0) -> int:
    """Return a port that nothing listens on now: the wanted one, or any."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            # as servers do, so that connections of the last run don't keep it taken
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise StepFailed("no port is free")


@contextmanager
def _webhook(command: list[str], folder: Path) -> Iterator[Path]:
    """Run it until the block ends; yield its authority's certificate."""
    log = folder / "webhook.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while '"ready"' not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise StepFailed(f"the webhook did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield folder / "certificates" / "ca.crt"
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def _ask(steps: Steps, port: int, authority: Path, name: str, text: str) -> dict[str, Any]:
    """Send a review as an API server does, and show how a person would."""
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "demo",
            "operation": "CREATE",
            "kind": {"group": "kaito.sh", "version": "v1beta1", "kind": "Workspace"},
            "namespace": "default",
            "object": yaml.safe_load(text),
        },
    }
    (authority.parent.parent / f"{name}.json").write_text(json.dumps(review, indent=2))
    steps.command(
        "curl --cacert certificates/ca.crt -H 'Content-Type: application/json' "
        f"--data @{name}.json https://localhost:{port}/validate"
    )
    request = urllib.request.Request(
        f"https://localhost:{port}/validate",
        json.dumps(review).encode(),
        {"Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=str(authority))
    with urllib.request.urlopen(request, timeout=START_SECONDS, context=trusted) as answer:
        response: dict[str, Any] = json.load(answer)["response"]
    return response
