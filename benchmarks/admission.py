"""The admission webhook: behind a real API server, and over TLS by itself.

    python benchmarks/admission.py [--requests 1000] [--seconds 3] [--memory 100000] [--write]

Behind the API server, one client creates a Workspace as a dry run in namespaces in turn: one is guarded by
our validating webhook, another by an empty one of FastAPI, each a process of its own with the same
certificate. The ratio of the medians is what counts; where Kubernetes' programs are absent this part is left
out and says so. By itself, one replica and two take bodies of 10 KiB and 1 MiB over kept connections, and at
last very many, with a look at the memory. `--write` puts the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from loading import Figures, Load, run

from tests.e2e import conftest as kubernetes
from tests.webhook import asking

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
EXAMPLE = ROOT / "manifests/examples/kaito/workspace-falcon-7b"
MOST_RATIO = 1.3
"""What our webhook may take of a request through the API server, of an empty one's."""
SIZES = {"10 KiB": 10 * 2**10, "1 MiB": 2**20}
CONNECTIONS = (1, 16, 64)
CROWD, LARGEST = 128, 6 * 2**20
"""Connections at once, each with an update of an object of 3 MiB: the largest that an API server takes."""
MOST_MIB = 512
"""A replica's limit in the manifests."""
MOST_GROWTH_MIB = 8
"""Between the tenth part of very many requests and the last; more would be a leak."""
SAME, CHANGED, EMPTY = "ours, the same again", "ours, changed each time", "empty, of FastAPI"
SIDES = {SAME: ("ours", False), CHANGED: ("ours", True), EMPTY: ("empty", True), "none": ("none", True)}
_BLOCK = 20
_START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A webhook that runs."""

    port: int
    plain: int
    process: int

    @property
    def resident_mib(self) -> float:
        """Its memory now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.plain}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.M)
        assert found is not None
        return float(found[1]) / 2**20

    @property
    def most_mib(self) -> float:
        """Its memory at the worst moment."""
        status = Path(f"/proc/{self.process}/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.M)
        assert found is not None
        return int(found[1]) / 2**10


def main() -> int:
    """Measure, print the tables, and write them where asked; return 1 where a limit is passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000, help="of each side, through the API server")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each row of the table")
    parser.add_argument("--memory", type=int, default=100_000, help="requests for the look at the memory")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    options = parser.parse_args()
    # Whoever ends us ends what we started as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = Path(folder)
        servers = [start(stack, place)]
        trusted = ssl.create_default_context(cafile=str(place / "ca.crt"))
        trusted.minimum_version = ssl.TLSVersion.TLSv1_3
        through = through_the_api_server(stack, place, servers[0], options.requests)
        servers.append(start(stack, place))
        alone: list[Row] = []
        for used in (servers[:1], servers):
            ports = [one.port for one in used]
            for size, length in SIZES.items():
                for connections in CONNECTIONS:
                    load = Load(ports, trusted, review(length), connections, options.seconds)
                    alone.append((len(used), size, connections, run(load)))
        memory = (*grows(servers[0], trusted, options.memory), crowded(servers[1], trusted))
    text = tables(through, alone, memory, options)
    print(text)
    if options.write:
        write(text)
    slow = through is not None and any(ratio > MOST_RATIO for ratio in ratios(through))
    return int(slow or memory[1] - memory[0] > MOST_GROWTH_MIB or memory[2] > MOST_MIB)


def start(stack: contextlib.ExitStack, place: Path) -> Server:
    """Start a replica that serves without a cluster; all share one folder of certificates."""
    port, plain = kubernetes.free_ports(2)
    log = place / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "webhook", "--standalone", "--port", str(port), "--plain-port", str(plain),
             "--cert-dir", str(place)],
            stdout=output, stderr=subprocess.STDOUT, cwd=ROOT,
        )  # fmt: skip
    stack.callback(_end, process)
    until = time.monotonic() + _START_SECONDS
    while '"ready"' not in log.read_text():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
    return Server(port, plain, process.pid)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def review(size: int) -> bytes:
    """A review of a rendered Deployment, made as large as asked for by what nobody compares."""
    document = asking.deployment()
    mounts: list[dict[str, Any]] = []
    document["spec"]["template"]["spec"]["containers"].append({"name": "other", "volumeMounts": mounts})
    one = {"name": "a-volume-of-somebody", "mountPath": "/somewhere/in/the/container", "readOnly": True}
    missing = size - len(asking.body(document))
    mounts += [one] * max(0, missing // (len(json.dumps(one)) + 2))
    return asking.body(document)


def grows(server: Server, trusted: ssl.SSLContext, requests: int) -> tuple[float, float]:
    """Return the memory in MiB after a tenth of the requests, and after all."""
    body = review(SIZES["10 KiB"])
    run(Load([server.port], trusted, body, 16, 3600, requests // 10))
    early = server.resident_mib
    run(Load([server.port], trusted, body, 16, 3600, requests - requests // 10))
    return early, server.resident_mib


def crowded(server: Server, trusted: ssl.SSLContext) -> float:
    """Return the most memory that a crowd of the largest reviews took."""
    run(Load([server.port], trusted, review(LARGEST), CROWD, 3600, 2 * CROWD))
    return server.most_mib


def through_the_api_server(
    stack: contextlib.ExitStack, place: Path, server: Server, requests: int
) -> dict[str, list[float]] | None:
    """Return the seconds of each request by what was asked and by whom it was looked at."""
    programs = kubernetes.find_programs()
    if isinstance(programs, str):
        print(programs, file=sys.stderr)
        return None
    folder = place / "kubernetes"
    folder.mkdir()
    config = kubernetes.start(programs, folder, stack)
    kubectl = kubernetes.Kubectl(programs["kubectl"], config)
    kubectl("apply", "--server-side", "-f", str(ROOT / "manifests/platform/crds"))
    kubectl("wait", "--for=condition=Established", "crd/workspaces.kaito.sh", "--timeout=30s")
    (empty,) = kubernetes.free_ports(1)
    command = [
        sys.executable,
        "benchmarks/empty_webhook.py",
        str(empty),
        str(place / "tls.crt"),
        str(place / "tls.key"),
    ]
    process = subprocess.Popen(command, cwd=ROOT)
    stack.callback(_end, process)
    ports = {"ours": server.port, "empty": empty, "none": None}
    for name, port in ports.items():
        kubectl("create", "namespace", name)
        if port is not None:
            kubectl("apply", "-f", "-", stdin=json.dumps(_configuration(name, port, place)))
    with contextlib.closing(_Client(json.loads(config.read_text()))) as client:
        _wait_until_asked(client)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(-(-requests // _BLOCK)):
            for side, (name, changed) in SIDES.items():
                seconds[side] += [client.create(name, changed=changed)[1] for _ in range(_BLOCK)]
    return seconds


def _configuration(name: str, port: int, place: Path) -> dict[str, Any]:
    rule = {
        "apiGroups": ["kaito.sh"],
        "apiVersions": ["*"],
        "operations": ["CREATE"],
        "resources": ["workspaces"],
    }
    entry = {
        "name": f"{name}.berth.dev",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "url": f"https://localhost:{port}/validate",
            "caBundle": base64.b64encode((place / "ca.crt").read_bytes()).decode(),
        },
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [entry],
    }


class _Client:
    """One connection to the API server."""

    def __init__(self, config: dict[str, Any]) -> None:
        place = config["clusters"][0]["cluster"]
        trusted = ssl.create_default_context(
            cadata=base64.b64decode(place["certificate-authority-data"]).decode()
        )
        trusted.check_hostname = False
        self._connection = http.client.HTTPSConnection(
            place["server"].removeprefix("https://"), context=trusted
        )
        self._headers = {
            "Authorization": f"Bearer {config['users'][0]['user']['token']}",
            "Content-Type": "application/json",
        }
        document = yaml.safe_load((EXAMPLE / "workspace-workspace-falcon-7b.yaml").read_text())
        self._version = document["apiVersion"]
        self._document, self._count = document, 0
        self._bad = json.dumps({**document, "inference": {"preset": {"name": "no-such-model"}}})

    def create(self, namespace: str, *, good: bool = True, changed: bool = False) -> tuple[int, float]:
        """Create it as a dry run, with another annotation where asked; return the status and the seconds."""
        path = f"/apis/{self._version}/namespaces/{namespace}/workspaces?dryRun=All"
        self._count += changed
        self._document["metadata"]["annotations"]["example.com/count"] = str(self._count)
        content = json.dumps(self._document) if good else self._bad
        began = time.perf_counter()
        self._connection.request("POST", path, content, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        seconds = time.perf_counter() - began
        if good and answer.status != 201:
            raise RuntimeError(f"{namespace}: {answer.status}")
        return answer.status, seconds

    def close(self) -> None:
        """End it."""
        self._connection.close()


def _wait_until_asked(client: _Client) -> None:
    """The API server takes up a new configuration a moment later, and the empty webhook starts as long."""
    until = time.monotonic() + _START_SECONDS
    asked = 0
    while asked < _BLOCK:
        if time.monotonic() > until:
            raise SystemExit("the API server never asked the webhooks")
        refused = client.create("ours", good=False)[0] == 422
        with contextlib.suppress(RuntimeError):
            asked = asked + 1 if refused and client.create("empty")[0] == 201 else 0
        time.sleep(0.05)


def ratios(through: dict[str, list[float]]) -> tuple[float, float]:
    """Return our medians by the empty webhook's: for the same again, and for what changes."""
    medians = {side: statistics.median(seconds) for side, seconds in through.items()}
    return medians[SAME] / medians[EMPTY], medians[CHANGED] / medians[EMPTY]


Row = tuple[int, str, int, Figures]


def tables(
    through: dict[str, list[float]] | None,
    alone: list[Row],
    memory: tuple[float, float, float],
    options: argparse.Namespace,
) -> str:
    """Return the figures as Markdown."""
    lines = []
    if through is not None:
        same, changed = ratios(through)
        lines += [
            f"One client creates a Workspace as a dry run through kube-apiserver, {options.requests:,} times "
            "each, in turn. With our webhook the median is "
            f"**{same:.2f} times** an empty FastAPI webhook's for the same Workspace again, and "
            f"**{changed:.2f} times** for one that is changed each time (at most {MOST_RATIO}).",
            "",
            "| validating webhook | p50 | p95 | p99 |",
            "| --- | --- | --- | --- |",
            *(f"| {side} | {_percentiles(Figures(seconds))} |" for side, seconds in through.items()),
        ]
        lines.append("")
    lines += [
        f"Over TLS by itself, {options.seconds:g} s a row; the client takes its share of the same "
        f"{os.cpu_count()} cores. A review of a rendered Deployment, made larger by what nobody compares:",
        "",
        "| replicas | body | connections | requests per second | p50 | p95 | p99 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for replicas, size, connections, figures in alone:
        lines.append(
            f"| {replicas} | {size} | {connections} | {figures.per_second:,.0f} | {_percentiles(figures)} |"
        )
    early, late, most = memory
    lines += [
        "",
        f"Memory of a replica: {early:.0f} MiB after {options.memory // 10:,} requests of 10 KiB, "
        f"{late:.0f} MiB after {options.memory:,}; at most {most:.0f} MiB while {CROWD} connections send "
        f"reviews of {LARGEST // 2**20} MiB each.",
    ]
    return "\n".join(lines)


def _percentiles(figures: Figures) -> str:
    return " | ".join(f"{figures.milliseconds(share):.2f} ms" for share in (0.5, 0.95, 0.99))


def write(text: str) -> None:
    """Put it between the page's marks."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = "<!-- webhook: begin -->", "<!-- webhook: end -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{PAGE} has no place for it between {begin} and {end}")
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
