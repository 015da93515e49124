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
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30

WORKSPACE: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "assistant"},
    "resource": {
        "instanceType": "Standard_NC6s_v3",
        "labelSelector": {"matchLabels": {"apps": "assistant"}},
    },
    "inference": {"preset": {"name": "falcon-40b"}},
}
MENDED = {**WORKSPACE, "resource": {**WORKSPACE["resource"], "instanceType": "Standard_NC24ads_A100_v4"}}


def run(console: Console, folder: Path) -> bool:
    """Show both answers; return whether they were as they should be."""
    port = free_port()
    command = ["-m", "webhook", "--standalone", "--port", str(port), "--cert-dir", "certificates"]
    console.print(f"[dim]$ python {' '.join(command)} &[/]", soft_wrap=True)
    with _webhook(command, folder) as authority:
        small = _ask(port, authority, WORKSPACE)
        console.print(f"[dim]$ {_curl(port)}   # {WORKSPACE['resource']['instanceType']}[/]", soft_wrap=True)
        console.print(f"refused: {small.get('status', {}).get('message')}", markup=False)
        fine = _ask(port, authority, MENDED)
        console.print(f"[dim]$ {_curl(port)}   # {MENDED['resource']['instanceType']}[/]", soft_wrap=True)
        console.print(f"taken: allowed is {fine['allowed']}, and {fine['auditAnnotations']}", markup=False)
    return small["allowed"] is False and fine["allowed"] is True


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _webhook(command: list[str], folder: Path) -> Iterator[Path]:
    """Run it until the block ends; yield its authority's certificate."""
    log = folder / "webhook.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while '"ready"' not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the webhook did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield folder / "certificates" / "ca.crt"
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _ask(port: int, authority: Path, workspace: dict[str, Any]) -> dict[str, Any]:
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "demo",
            "operation": "CREATE",
            "kind": {"group": "kaito.sh", "version": "v1beta1", "kind": "Workspace"},
            "namespace": "default",
            "object": workspace,
        },
    }
    request = urllib.request.Request(
        f"https://localhost:{port}/validate",
        json.dumps(review).encode(),
        {"Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=str(authority))
    with urllib.request.urlopen(request, timeout=START_SECONDS, context=trusted) as answer:
        response: dict[str, Any] = json.load(answer)["response"]
    return response


def _curl(port: int) -> str:
    return (
        "curl --cacert certificates/ca.crt -H 'Content-Type: application/json' --data @review.json "
        f"https://localhost:{port}/validate"
    )
