"""The watcher in a large cluster: 1,000 Workspaces on 5,000 nodes, on a real kube-apiserver.

    python benchmarks/large_cluster.py [--workspaces 1000] [--nodes 5] [--kopf PYTHON]

What is measured is a process of its own, as in a pod: how long it takes from its start until it has looked at
everything, how long from an event until the first write that it leads to was answered, and from a node's
failure until another client sees the Workspace say so, writes per change that was needed, memory, and the
processor's time while nothing happens. `--kopf` names a Python with kopf in it: an operator of the same
decisions on that framework then runs through the same. Seconds depend on the machine and on whatever else it
does; the ratios between the two are the result.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kube import resources  # noqa: E402
from kube.client import Client  # noqa: E402
from kube.reflector import Change, Reflector  # noqa: E402
from tests.e2e import conftest  # noqa: E402
from tests.watcher.specs import A100, planned  # noqa: E402
from tests.watcher.stage import DEFINITIONS, is_served  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

NAMESPACE = "models"
LIMITS = {"start": 10.0, "p99": 0.1, "writes": 1.2, "memory": 150.0, "idle": 1.0}
"""Seconds, seconds, writes, MiB and percent: what the watcher may take."""
CHANGES, PER_S, IDLE_S, AT_ONCE = 400, 20.0, 30.0, 16
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Figures:
    """Of one program."""

    start_s: float = 0.0
    first_write_s: float | None = None
    """Within which 99 % of events led to a first write, as the program's own histogram tells."""
    reaction_s: list[float] = field(default_factory=list)
    patch_s: list[float] = field(default_factory=list)
    """How long the benchmark's own writes took: what the API server needs for one, on this machine."""
    writes: float = 0.0
    events: float = 0.0
    memory_mib: float = 0.0
    idle_percent: float = 0.0

    @property
    def median_s(self) -> float:
        return statistics.median(self.reaction_s)

    @property
    def p99_s(self) -> float:
        return _p99(self.reaction_s)


def _p99(times: list[float]) -> float:
    return sorted(times)[max(0, int(len(times) * 0.99) - 1)]


@dataclass
class Program:
    """A running operator, seen from outside."""

    process: subprocess.Popen[bytes]
    port: int
    began: float

    def metric(self, name: str) -> float:
        """Return the sum of a metric, over its labels."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self._lines() if line.startswith(name))

    def buckets(self) -> dict[float, float]:
        """Return how many events were followed by a write within so many seconds; empty where not told."""
        found = {}
        for line in self._lines():
            if line.startswith("berth_watcher_event_to_write_seconds_bucket"):
                found[float(line.split('le="')[1].split('"')[0])] = float(line.rsplit(" ", 1)[1])
        return found

    def _lines(self) -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            return str(answer.read().decode()).splitlines()

    def memory_mib(self) -> float:
        """Return the most memory that it ever held."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024

    def processor_s(self) -> float:
        parts = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / TICKS

    def end(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()


def ours(kubeconfig: Path, folder: Path) -> Program:
    """Start the watcher."""
    return _start([sys.executable, "-m", "watcher", "--namespace", NAMESPACE,
                   "--kubeconfig", str(kubeconfig), "--host", "127.0.0.1"], folder, "watcher")  # fmt: skip


def theirs(python: str) -> Callable[[Path, Path], Program]:
    """Start the same on kopf."""
    operator = str(ROOT / "benchmarks" / "kopf_operator.py")
    return lambda kubeconfig, folder: _start(
        [python, operator, "--kubeconfig", str(kubeconfig)], folder, "kopf"
    )


def _start(command: list[str], folder: Path, name: str) -> Program:
    [port] = conftest.free_ports(1)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], cwd=ROOT, env=environment,
                                   stdout=log, stderr=log)  # fmt: skip
    return Program(process, port, began)


class Bench:
    """The cluster, and one client that makes it and looks on."""

    def __init__(self, client: Client, workspaces: int, nodes: int) -> None:
        self.client = client
        self.names = [f"w{number:04d}" for number in range(workspaces)]
        self.nodes = nodes
        self.seen: dict[tuple[str, str], float] = {}
        """When a Workspace was seen to say something about its nodes."""
        self.written: dict[str, int] = {}
        self.watching = Reflector(client, resources.WORKSPACES, on_event=self._on_workspace)

    def _on_workspace(self, change: Change) -> None:
        name = change.key[1]
        self.written[name] = self.written.get(name, 0) + 1
        status = _resource_ready(change.object)
        if change.old is None or _resource_ready(change.old) != status:
            self.seen[name, status] = time.monotonic()

    async def define(self) -> None:
        import yaml

        for kind, path in DEFINITIONS.items():
            await self.client.apply(resources.CRDS, yaml.safe_load(path.read_text()), manager="bench")
            while not await is_served(self.client, kind):
                await asyncio.sleep(0.2)
        await self.client.create(
            resources.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        )

    async def born(self) -> None:
        """Bring every Workspace."""
        documents = [planned(name, NAMESPACE, count=self.nodes) for name in self.names]
        await at_once(documents, lambda one: self.client.create(resources.WORKSPACES, one))

    async def until(self, holds: Callable[[], bool | Awaitable[bool]], what: str, seconds: float) -> float:
        """Wait, and return how long it took."""
        began = time.monotonic()
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise SystemExit(f"not within {seconds:.0f} s: {what}")
            await asyncio.sleep(0.05)

    async def launch(self) -> None:
        """Let every claim become a node, as the provisioner and the kubelet tell it."""
        claims = (await self.client.list(resources.NODE_CLAIMS)).items
        await at_once(claims, self._launch)

    async def _launch(self, claim: dict[str, Any]) -> None:
        name = f"node-{claim['metadata']['name']}"
        tags = {**claim["metadata"]["labels"], "node.kubernetes.io/instance-type": A100,
                "kubernetes.io/hostname": name}  # fmt: skip
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": tags},
                "spec": {"providerID": f"sim://{name}"}, "status": kubelet(True)}  # fmt: skip
        await self.client.create(resources.NODES, body)  # with its status, as a kubelet does it
        told = [condition(kind, True) for kind in ("Launched", "Registered", "Initialized", "Ready")]
        status = {"nodeName": name, "providerID": f"sim://{name}", "conditions": told}
        await self.client.patch(
            resources.NODE_CLAIMS, claim["metadata"]["name"], {"status": status}, subresource="status"
        )

    async def ready(self) -> bool:
        return all(_resource_ready(one) == "True" for one in self.watching.store.values())

    async def change(self, figures: Figures) -> None:
        """Let one node after the other fail and come back, and look when its Workspace says so."""
        due = time.monotonic()
        waiting = set()
        for number in range(CHANGES // 2):
            name = self.names[number * 7 % len(self.names)]
            waiting.add(asyncio.create_task(self._one_change(name, figures)))
            due += 2 / PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*waiting)

    async def _one_change(self, name: str, figures: Figures) -> None:
        workspace = self.watching.store.get((NAMESPACE, name))
        assert workspace is not None
        node = workspace["status"]["workerNodes"][0]
        for good in (False, True):
            key = (name, str(good))
            self.seen.pop(key, None)
            began = time.monotonic()
            await self.client.patch(resources.NODES, node, {"status": kubelet(good)}, subresource="status")
            figures.patch_s.append(time.monotonic() - began)
            await self.until(lambda key=key: key in self.seen, f"{key} after {node}", 60)  # type: ignore[misc]
            figures.reaction_s.append(self.seen[key] - began)

    async def measure(
        self, start: Callable[[Path, Path], Program], kubeconfig: Path, folder: Path
    ) -> Figures:
        """Run a program in the full cluster."""
        figures = Figures()
        program = start(kubeconfig, folder)
        try:

            def looked() -> bool:
                with contextlib.suppress(OSError):
                    return program.metric("berth_watcher_passes_total") >= len(self.names)
                return False

            await self.until(lambda: asyncio.to_thread(looked), "it looked at every Workspace", 300)
            figures.start_s = time.monotonic() - program.began
            await asyncio.sleep(5)
            spent, began = program.processor_s(), time.monotonic()
            await asyncio.sleep(IDLE_S)
            figures.idle_percent = (program.processor_s() - spent) / (time.monotonic() - began) * 100
            done = 'berth_watcher_actions_total{action="PatchStatus",result="done"}'
            told = 'berth_watcher_actions_total{action="Tell",result="done"}'
            before, events, buckets = program.metric(done), program.metric(told), program.buckets()
            await self.change(figures)
            figures.first_write_s = p99({le: count - buckets[le] for le, count in program.buckets().items()})
            await asyncio.sleep(2)
            figures.writes = (program.metric(done) - before) / CHANGES
            figures.events = (program.metric(told) - events) / CHANGES
            figures.memory_mib = program.memory_mib()
        finally:
            program.end()
        return figures


def p99(buckets: dict[float, float]) -> float | None:
    """Return the 99th percentile of a histogram, straight within its bucket as Prometheus reads it."""
    if not buckets:
        return None
    wanted, below, start = 0.99 * max(buckets.values()), 0.0, 0.0
    for le, count in sorted(buckets.items()):
        if count >= wanted:
            return start + (le - start) * (wanted - below) / (count - below) if count > below else le
        below, start = count, le
    return start


async def at_once(things: Iterable[Any], do: Callable[[Any], Awaitable[Any]]) -> None:
    """Do something with each, several at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(thing: Any) -> None:
        async with limit:
            await do(thing)

    await asyncio.gather(*(one(thing) for thing in things))


def kubelet(ready: bool) -> dict[str, Any]:
    """Return a node's status."""
    amounts = {"cpu": "24", "memory": "220Gi", "nvidia.com/gpu": "1"}
    return {"capacity": amounts, "allocatable": amounts, "conditions": [condition("Ready", ready)]}


def condition(kind: str, good: bool) -> dict[str, str]:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"type": kind, "status": "True" if good else "False", "reason": "Simulated", "message": ""}
    return {**told, "lastTransitionTime": at}


def _resource_ready(workspace: dict[str, Any]) -> str:
    told = (workspace.get("status") or {}).get("conditions") or []
    return next((str(one["status"]) for one in told if one["type"] == "ResourceReady"), "")


async def run(kubeconfig: Path, folder: Path, given: argparse.Namespace) -> dict[str, Figures]:
    client = await Client.connect(kubeconfig, user_agent="bench", timeout_s=60)
    bench = Bench(client, given.workspaces, given.nodes)
    await bench.define()
    looking = asyncio.create_task(bench.watching.run())
    found: dict[str, Figures] = {}
    try:
        program = ours(kubeconfig, folder)
        try:
            began = time.monotonic()
            await bench.born()
            print(f"{given.workspaces} Workspaces in {time.monotonic() - began:.1f} s", flush=True)

            async def asked() -> bool:
                listed = await client._send("GET", resources.NODE_CLAIMS.path(), params={"limit": "1"})
                left = int(listed["metadata"].get("remainingItemCount") or 0) + len(listed["items"])
                return bool(left >= given.workspaces * given.nodes)

            await bench.until(asked, "every claim is made", 1200)
            print(f"all claims {time.monotonic() - began:.1f} s after the first Workspace", flush=True)
            await bench.launch()
            await bench.until(bench.ready, "every Workspace has its nodes", 1200)
            print(f"all nodes up after {time.monotonic() - began:.1f} s; {_writes(program)}", flush=True)
        finally:
            program.end()
        found["berth"] = await bench.measure(ours, kubeconfig, folder)
        report(found)
        if given.kopf:
            found["kopf"] = await bench.measure(theirs(given.kopf), kubeconfig, folder)
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await client.close()
    return found


def _writes(program: Program) -> str:
    kinds = ("AddFinalizer", "Create", "PatchStatus", "Tell")
    counts = {kind: program.metric(f'berth_watcher_actions_total{{action="{kind}"') for kind in kinds}
    return ", ".join(f"{kind} {count:.0f}" for kind, count in counts.items())


def report(found: dict[str, Figures]) -> int:
    """Print the table and return 1 if a limit is exceeded."""
    rows = (
        ("start until all is looked at", "s", lambda one: one.start_s, LIMITS["start"]),
        ("an event until the first write, p99", "s", lambda one: one.first_write_s, LIMITS["p99"]),
        ("a node fails until the Workspace is seen to say so, median", "s", lambda one: one.median_s, None),
        ("the same, p99", "s", lambda one: one.p99_s, None),
        ("one write of the benchmark's own, p99", "s", lambda one: _p99(one.patch_s), None),
        ("writes of the Workspace per change", "", lambda one: one.writes, LIMITS["writes"]),
        ("Events per change", "", lambda one: one.events, None),
        ("memory at most", "MiB", lambda one: one.memory_mib, LIMITS["memory"]),
        ("processor while nothing happens", "%", lambda one: one.idle_percent, LIMITS["idle"]),
    )  # fmt: skip
    print("| what | " + " | ".join(found) + " | limit |")
    print("| --- |" + " --- |" * (len(found) + 1))
    exceeded = 0
    for what, unit, read, limit in rows:
        values = [read(one) for one in found.values()]
        cells = " | ".join("" if value is None else f"{value:.3g} {unit}".strip() for value in values)
        print(f"| {what} | {cells} | {f'{limit:g} {unit}'.strip() if limit else ''} |")
        exceeded += bool(limit and (values[0] or 0.0) > limit)
    return int(exceeded > 0)


def main() -> int:
    """Make the cluster, measure, and return 1 if a limit is exceeded."""
    front = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    front.add_argument("--workspaces", type=int, default=1000)
    front.add_argument("--nodes", type=int, default=5, help="of each Workspace (default %(default)s)")
    front.add_argument("--kopf", metavar="PYTHON", help="a Python that has kopf, to compare with")
    given = front.parse_args()
    programs = conftest.find_programs()
    if isinstance(programs, str):
        print(programs, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        kubeconfig = conftest.start(programs, folder, stack)
        return report(asyncio.run(run(kubeconfig, folder, given)))


if __name__ == "__main__":
    sys.exit(main())
