"""A whole cluster for tests, where pods really run, with a registry beside it.

$BERTH_CLUSTER names a program that has `up`, `run COMMAND…` (inside the cluster's network, with kubectl's
configuration), `load ARCHIVE` (an image for its node), `gpus N` (counted by the scheduler, no device behind
them) and `down`. Inside, a registry listens on 127.0.0.1:5000, from which the node pulls under that name.
Only one such cluster runs on a machine at a time: a lock keeps several sessions apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGISTRY = "127.0.0.1:5000"
NODE = "node1"
PROGRAM_IMAGES = {
    program: os.environ.get(f"BERTH_{program.upper()}_IMAGE", f"localhost/berth-test-{program}:0.1.0")
    for program in ("webhook", "watcher")
}
SERVING_IMAGE = os.environ.get("BERTH_SERVING_IMAGE", "localhost/berth-test-serving:cpu")
"""Built by `BERTH_IMAGES=1 pytest -k image`, or named by the environment."""
_LOCK = Path(tempfile.gettempdir()) / "cluster.lock"
_UP_SECONDS, _RUN_SECONDS = 180, 120


@dataclass(frozen=True)
class Cluster:
    """A running cluster of one node."""

    program: str
    registry: str = REGISTRY

    def __call__(self, *command: str | Path, stdin: str | None = None, check: bool = True) -> str:
        """Run a command inside, and return what it wrote."""
        done = subprocess.run(
            [self.program, "run", *command],
            input=stdin, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False,
        )  # fmt: skip
        if check and done.returncode:
            said = (done.stdout + done.stderr)[-3000:]
            pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
        return done.stdout

    def kubectl(self, *arguments: str | Path, stdin: str | None = None, check: bool = True) -> str:
        return self("kubectl", *arguments, stdin=stdin, check=check)

    def refused(self, *arguments: str) -> str:
        """Return why the cluster refuses what kubectl asks for."""
        done = subprocess.run(
            [self.program, "run", "kubectl", *arguments],
            capture_output=True, text=True, timeout=_RUN_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 1, f"not refused: {done.stdout}{done.stderr}"
        return done.stderr

    def get(self, *arguments: str) -> Any:
        """Return an object or a list as data."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def load(self, archive: Path) -> None:
        """Give the node an image."""
        _ask(self.program, "load", str(archive))

    def give(self, *images: str) -> None:
        """Give the node images of this machine; without them there is no test."""
        missing = [name for name in images if not built(name)]
        if missing:
            skip(f"no image {' and no '.join(missing)}: `BERTH_IMAGES=1 pytest -k image` builds them")
        for name in images:
            with tempfile.TemporaryDirectory() as folder:
                archive = Path(folder) / "image.tar"
                save = ["save", "--quiet", "--format", "docker-archive", "--output", str(archive), name]
                _ask("podman", *save)
                self.load(archive)

    def gpus(self, count: int) -> None:
        """Let the node announce so many GPUs."""
        _ask(self.program, "gpus", str(count))

    def post(self, url: str, data: Any, seconds: int = 60) -> tuple[int, str]:
        """Post JSON from inside; return the status, 0 where nobody answered, and the body."""
        told = self(
            "curl", "--silent", "--show-error", "--max-time", str(seconds), "--write-out", "\n%{http_code}",
            "--header", "Content-Type: application/json", "--data", json.dumps(data), url, check=False,
        )  # fmt: skip
        body, _, status = told.rpartition("\n")
        return int(status or 0), body

    def wait(self, holds: Callable[[], bool], what: str, namespace: str, seconds: float = 180) -> None:
        """Wait, and tell what the pods said when it was in vain."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds:.0f} s: {what}\n{self.story(namespace)}")
            time.sleep(1)

    def story(self, namespace: str) -> str:
        """Return what happened in a namespace, for a failure's message."""
        parts = [self.kubectl("get", "pods,events", "--namespace", namespace, "-o", "wide", check=False)]
        for pod in self.kubectl("get", "pods", "-n", namespace, "-o", "name", check=False).split():
            logs = ("logs", pod, "-n", namespace, "--all-containers", "--tail=15", "--prefix")
            parts.append(self.kubectl(*logs, check=False))
        return "\n".join(parts)[-8000:]


def absent() -> str | None:
    """Return why there can be no cluster here, or nothing."""
    program = os.environ.get("BERTH_CLUSTER")
    if not program:
        return "no cluster where pods run: name its program in BERTH_CLUSTER"
    if shutil.which(program) is None:
        return f"no cluster where pods run: {program} (BERTH_CLUSTER) is not there"
    return "a cluster of one's own needs root" if os.geteuid() else None


def skip(reason: str) -> None:
    """Say loudly that something was not tested; with BERTH_PODS=required that is a failure."""
    text = f"NOT TESTED with real pods: {reason}"
    if os.environ.get("BERTH_PODS") == "required":
        pytest.fail(text)
    pytest.skip(text)


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A running cluster, down again afterwards unless it ran before."""
    if reason := absent():
        skip(reason)
    program = os.environ["BERTH_CLUSTER"]
    with contextlib.ExitStack() as stack:
        if not os.environ.get("BERTH_CLUSTER_LOCKED"):
            lock = stack.enter_context(_LOCK.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        up = subprocess.run([program, "run", "true"], capture_output=True, check=False).returncode == 0
        if not up:
            stack.callback(subprocess.run, [program, "down"], check=False, capture_output=True)
            _ask(program, "up")
        yield Cluster(program)


def built(image: str) -> bool:
    """Say whether this machine has an image."""
    if shutil.which("podman") is None:
        return False
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def _ask(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_UP_SECONDS, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
