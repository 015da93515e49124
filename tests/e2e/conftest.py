"""A real API server for the tests of this folder: etcd and kube-apiserver, on loopback, for one session.

Programs are taken from $KUBEBUILDER_ASSETS, else /usr/local/kubebuilder/bin, as envtest does. Where they are
absent these tests are skipped and say so; with BERTH_E2E=required they fail instead, so that no CI that
means to run them passes without. Nothing schedules pods here: objects are stored, validated and merged.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
TOKEN = "berth-tests"
START_TIMEOUT_SECONDS = 90


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark what stands in this folder, so that `-m 'not e2e'` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against the session's API server, in the default namespace unless told otherwise."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> Result:
        """Run it and return what came; with `check` a failure ends the test with kubectl's own words."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.kubeconfig.parent), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [self.program, f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin, capture_output=True, text=True, timeout=60, env=environment,
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return Result(done.returncode, done.stdout, done.stderr)

    def get(self, *arguments: str, stdin: str | None = None) -> Any:
        """Return an object or a list as data."""
        return self("get", *arguments, "-o", "json", stdin=stdin).json()


def find_programs() -> dict[str, Path] | str:
    """Return where the programs are, or why the tests cannot run."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")
    found = {name: folder / name for name in PROGRAMS if os.access(folder / name, os.X_OK)}
    missing = [name for name in PROGRAMS if name not in found]
    openssl = shutil.which("openssl")
    if openssl is None:
        missing.append("openssl")
    if missing:
        return (
            f"NOT TESTED against a real API server: {', '.join(missing)} not found in {folder}; "
            "put Kubernetes' own programs there or name their folder in KUBEBUILDER_ASSETS"
        )
    return {**found, "openssl": Path(str(openssl))}


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    found = find_programs()
    if isinstance(found, str):
        if os.environ.get("BERTH_E2E") == "required":
            pytest.fail(found)
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def kubectl(programs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl for a fresh, empty API server that ends with the session."""
    folder = tmp_path_factory.mktemp("apiserver")
    with contextlib.ExitStack() as stack:
        yield Kubectl(programs["kubectl"], start(programs, folder, stack))


@pytest.fixture(scope="session")
def cluster(kubectl: Kubectl) -> Kubectl:
    """The same with the Workspace CRD and its roles, as `manifests/platform/crds` has them."""
    kubectl("apply", "--server-side", "-f", str(ROOT / "manifests" / "platform" / "crds"))
    kubectl("wait", "--for=condition=Established", "crd/workspaces.kaito.sh", "--timeout=30s")
    return kubectl


@pytest.fixture(scope="session")
def watched(programs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """An API server for the watcher's tests alone: node objects belong to no namespace."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("watched")
        yield Kubectl(programs["kubectl"], start(programs, folder, stack))


@pytest.fixture
def namespace(cluster: Kubectl, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:10]
    cluster("create", "namespace", f"test-{digest}")
    return f"test-{digest}"


def start(programs: Mapping[str, Path], folder: Path, stack: contextlib.ExitStack, *more: str) -> Path:
    """Start both programs, wait until the API server is ready, and return a kubeconfig.

    `more` are further flags of the API server.
    """
    client, peer, secure = free_ports(3)
    key = folder / "accounts.key"
    openssl: list[str | Path] = [programs["openssl"], "genrsa", "-out", key, "2048"]
    subprocess.run(openssl, check=True, capture_output=True, timeout=60)
    tokens = folder / "tokens.csv"
    tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
    run(stack, folder / "etcd.log", [
        programs["etcd"],
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
        "--log-level=error",
    ])  # fmt: skip
    server = run(stack, folder / "apiserver.log", [
        programs["kube-apiserver"],
        f"--etcd-servers=http://127.0.0.1:{client}",
        f"--cert-dir={folder / 'certificates'}",
        "--bind-address=127.0.0.1",
        f"--secure-port={secure}",
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        f"--token-auth-file={tokens}",
        "--disable-admission-plugins=ServiceAccount",
        "--service-account-issuer=https://localhost",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--profiling=false",
        *more,
    ])  # fmt: skip
    wait_until_ready(server, secure, folder / "apiserver.log")
    return write_kubeconfig(folder, secure)


def run(stack: contextlib.ExitStack, log: Path, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    """Start a program that ends with the stack; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(stop, process)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it at once: nothing of it is wanted any more."""
    process.kill()
    process.wait()


def wait_until_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(
        f"https://127.0.0.1:{port}/readyz", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(request, context=trusting, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the API server did not become ready:\n{log.read_text(errors='replace')[-3000:]}")


def write_kubeconfig(folder: Path, port: int) -> Path:
    authority = base64.b64encode((folder / "certificates" / "apiserver.crt").read_bytes()).decode()
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
        "current-context": "tests",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now; held together so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
        return ports
