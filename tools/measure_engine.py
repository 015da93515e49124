"""Measures what the pinned engine allocates, and writes it as CSV.

    python -m tools.measure_engine --engine SITE_PACKAGES --out measured.csv [--only MODEL …]
    python -m tools.measure_engine --engine SITE_PACKAGES --repeat measured.csv --sample 50

SITE_PACKAGES is where the engine's wheel is installed (`llama_cpp/` and `bin/ggml-rpc-server` lie there), or
what `make engine` built (`.venv/engine`). Models come from `tests/data/engine-models.json`, or from the
catalogue with `--presets`; each is written as a GGUF file with the right header and no weights, and loaded
with one or two RPC servers standing in for GPUs, or on the CPU alone. `--repeat` measures rows of an
existing file again and reports every difference.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from berth.engine import layouts
from tools import sparse_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests" / "data" / "engine-models.json"
DEVICES = {"cpu": 0, "rpc1": 1, "rpc2": 2}
SETTING = (
    "n_ctx", "n_parallel", "flash_attn", "kv_type", "kv_unified", "n_ubatch", "n_outputs_max", "device",
)  # fmt: skip
COLUMNS = (
    "model", "arch", "quant", "file_bytes", "tensor_bytes", "n_params", *SETTING, "n_ctx_actual", "n_ctx_seq",
    "weights_bytes", "kv_bytes", "compute_bytes", "compute_bytes_per_device", "weights_per_device",
    "kv_per_device", "host_weights_bytes", "host_kv_bytes", "host_compute_bytes",
)  # fmt: skip
REFUSED = ("model", "arch", "quant", *SETTING, "refused")

Setting = dict[str, Any]


def models(path: Path = MODELS) -> dict[str, dict[str, Any]]:
    """The models to measure: architecture, vocabulary, features and metadata by name."""
    loaded: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return loaded


def presets() -> dict[str, dict[str, Any]]:
    """The catalogue's models in the same form."""
    from berth import catalog

    found: dict[str, dict[str, Any]] = {}
    for model in catalog.load().models:
        architecture = model.metadata["general.architecture"]
        prefix = f"{architecture}."
        found[model.name] = {
            "architecture": architecture,
            "vocabulary": model.vocabulary,
            "features": dict(model.features),
            "metadata": {
                key.removeprefix(prefix): value
                for key, value in model.metadata.items()
                if key.startswith(prefix)
            },
            "more": {key: value for key, value in model.metadata.items() if not key.startswith(prefix)},
        }
    return found


def metadata(model: dict[str, Any]) -> dict[str, Any]:
    """A model's GGUF keys and values."""
    architecture = model["architecture"]
    own = {f"{architecture}.{key}": value for key, value in model["metadata"].items()}
    return {"general.architecture": architecture, **own, **model.get("more", {})}


def layout(model: dict[str, Any], quantization: str) -> layouts.Layout:
    """A model's layout in one quantization."""
    return layouts.preset(
        metadata(model), quantization, vocabulary=model["vocabulary"], features=model.get("features", {})
    )


def survey(name: str, model: dict[str, Any]) -> list[tuple[str, Setting]]:
    """The settings that every model is measured with: pairs of quantization and setting."""
    small = "MXFP4_MOE" if model["architecture"] == "gpt-oss" else "Q4_K_M"
    encoder = model["metadata"].get("attention.causal") is False or "pooling_type" in model["metadata"]
    trained = int(model["metadata"]["context_length"])
    rows: list[tuple[str, Setting]] = []

    def add(
        context: int, parallel: int = 4, fa: int = 1, kv: str = "f16", unified: int = 0, ubatch: int = 512,
        device: str = "rpc1", quantization: str = small,
    ) -> None:  # fmt: skip
        context = min(context, max(trained, 32_768)) if not encoder else min(context, trained)
        ubatch = 2048 if encoder and context >= 2048 else ubatch
        outputs = 2048 if encoder else parallel
        row = dict(zip(SETTING, (context, parallel, fa, kv, unified, ubatch, outputs, device), strict=True))
        if (quantization, row) not in rows:
            rows.append((quantization, row))

    add(4096, 1)
    add(32768, 4)
    add(8192, 4, 0)
    add(16384, 8, kv="q8_0")
    add(8192, 4, unified=1)
    add(131072, 1, kv="q4_0", ubatch=256)
    add(32768, 2, kv="bf16", ubatch=2048)
    add(4096, 16, ubatch=1024)
    add(65536, 2, 0, unified=1)
    add(5000, 3, kv="q8_0/f16", ubatch=128)
    add(300, 1, 0, ubatch=64)
    add(8192, 4, device="rpc2")
    add(32768, 1, kv="q8_0", device="rpc2")
    add(16384, 8, 0, unified=1, device="rpc2")
    add(8192, 4, device="cpu")
    if small == "Q4_K_M":
        add(8192, 4, quantization="Q8_0")
        add(32768, 8, kv="q8_0", quantization="F16")
    return rows


class Measurer:
    """Runs the engine for one model and one kind of device at a time."""

    def __init__(self, engine: Path, folder: Path, allocate: bool = False) -> None:
        self.engine = engine
        self.folder = folder
        self.allocate = allocate
        """Whether the engine really takes the memory; else it only tells what it would take."""

    def rows(
        self, name: str, model: dict[str, Any], wanted: Iterable[tuple[str, Setting]]
    ) -> Iterator[Setting]:
        """The measured rows of a model; a setting that the engine refuses has `refused` with the reason."""
        groups: dict[tuple[str, str], list[Setting]] = {}
        for quantization, setting in wanted:
            groups.setdefault((quantization, setting["device"]), []).append(setting)
        for (quantization, device), settings in groups.items():
            found = layout(model, quantization)
            path = self.folder / "model.gguf"
            keys = sparse_gguf.engine_metadata(metadata(model), model["vocabulary"])
            size = sparse_gguf.write(path, keys, found.tensors)
            fixed = {
                "model": name,
                "arch": model["architecture"],
                "quant": quantization,
                "file_bytes": size,
                "tensor_bytes": found.size,
                "n_params": sum(tensor.elements for tensor in found.tensors),
            }
            for setting, result in self._run(path, DEVICES[device], settings):
                if "host" in result:
                    yield {**fixed, **setting, **_row(result)}
                else:
                    print(f"{name} {quantization} {setting}: {result}", file=sys.stderr)
                    yield {**fixed, **setting, "refused": result["error"].split(":")[0]}

    def _run(
        self, path: Path, count: int, settings: list[Setting]
    ) -> Iterator[tuple[Setting, dict[str, Any]]]:
        """Every setting with its result; where the engine aborts, the rest is tried in a new process."""
        remaining = list(settings)
        with _servers(self.engine, count) as servers:
            while remaining:
                asked = [{**setting, "embeddings": _embeds(setting)} for setting in remaining]
                built = self.engine / "python"
                task = {
                    "library": str(built if built.is_dir() else self.engine), "path": str(path),
                    "servers": servers, "allocate": self.allocate, "settings": asked,
                }  # fmt: skip
                probe = [sys.executable, str(ROOT / "tools" / "engine_probe.py")]
                done = subprocess.run(
                    probe,
                    input=json.dumps(task),
                    capture_output=True,
                    text=True,
                    check=False,
                    env={**os.environ, "GGML_NO_BACKTRACE": "1"},
                )
                results = [json.loads(line) for line in done.stdout.splitlines()]
                if results and "fatal" in results[0]:
                    print(f"{results[0]['fatal']}\n{done.stderr[-3000:]}", file=sys.stderr)
                    return
                yield from zip(remaining, results, strict=False)
                remaining = remaining[len(results) :]
                if remaining:
                    yield remaining.pop(0), {"error": f"the engine aborted: {done.stderr[-600:]}"}


def _embeds(setting: Setting) -> bool:
    """Whether the server runs with `--embeddings`; only then it asks for more outputs than slots."""
    return int(setting["n_outputs_max"]) > int(setting["n_parallel"])


def _row(result: dict[str, Any]) -> dict[str, Any]:
    """A result in the columns of the file; the CPU alone counts as the one device."""
    host, devices = result["host"], result["devices"]
    if not devices:
        host, devices = [0, 0, 0], [host]
    weights, cache, compute = ([device[kind] for device in devices] for kind in range(3))
    return {
        "n_ctx_actual": result["n_ctx_actual"],
        "n_ctx_seq": result["n_ctx_seq"],
        "weights_bytes": sum(weights),
        "kv_bytes": sum(cache),
        "compute_bytes": sum(compute),
        "compute_bytes_per_device": json.dumps(compute),
        "weights_per_device": json.dumps(weights),
        "kv_per_device": json.dumps(cache),
        "host_weights_bytes": host[0],
        "host_kv_bytes": host[1],
        "host_compute_bytes": host[2],
    }


@contextmanager
def _servers(engine: Path, count: int) -> Iterator[list[str]]:
    """RPC servers on free ports of this machine, ended afterwards."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(engine / "lib")}
    running: list[subprocess.Popen[bytes]] = []
    names: list[str] = []
    try:
        for _ in range(count):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            command = [str(engine / "bin" / "ggml-rpc-server"), "-H", "127.0.0.1", "-p", str(port)]
            quiet = subprocess.DEVNULL
            running.append(subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet))
            names.append(f"127.0.0.1:{port}")
        for name in names:
            _wait_for(name)
        yield names
    finally:
        for server in running:
            server.terminate()
        for server in running:
            server.wait()


def _wait_for(name: str) -> None:
    host, _, port = name.partition(":")
    for _ in range(100):
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"the RPC server at {name} does not answer")


def _repeat(measurer: Measurer, path: Path, sample: int, only: set[str]) -> int:
    """Measure rows again, and report what differs; the number of rows that do."""
    known = models()
    with path.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"] in known]
    rows = [row for row in rows if not only or row["model"] in only]
    if sample < len(rows):
        rows = random.Random(3).sample(rows, sample)
    compared = [column for column in COLUMNS[14:] if column not in SETTING] + ["tensor_bytes"]
    different = total = 0
    for name in sorted({row["model"] for row in rows}):
        expected = [row for row in rows if row["model"] == name]
        wanted = [(row["quant"], _setting(row)) for row in expected]
        by_setting = {(row["quant"], *(str(row[key]) for key in SETTING)): row for row in expected}
        for found in measurer.rows(name, known[name], wanted):
            if "refused" in found:
                different += 1
                continue
            row = by_setting[found["quant"], *(str(found[key]) for key in SETTING)]
            total += 1
            wrong = {key: (row[key], found[key]) for key in compared if row[key] != str(found[key])}
            different += bool(wrong)
            if wrong:
                print(name, row["quant"], {key: row[key] for key in SETTING}, wrong)
    print(f"{total} rows measured again, {different} differ")
    return different


def _setting(row: dict[str, str]) -> Setting:
    return {key: row[key] if key in ("kv_type", "device") else int(row[key]) for key in SETTING}


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, required=True, help="site-packages with the engine's wheel")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--presets", action="store_true", help="the catalogue's models instead")
    parser.add_argument("--only", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--refused", type=Path, help="where settings go that the engine refuses")
    parser.add_argument("--repeat", type=Path, metavar="CSV")
    parser.add_argument("--sample", type=int, default=10**9, metavar="ROWS")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="KEY=VALUE,…", help="instead of the survey's"
    )
    parser.add_argument("--quantization", default="Q4_K_M", help="with --setting")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measurer = Measurer(arguments.engine, Path(folder))
        if arguments.repeat:
            return int(_repeat(measurer, arguments.repeat, arguments.sample, set(arguments.only)) > 0)
        chosen = {
            name: model
            for name, model in (presets() if arguments.presets else models(arguments.models)).items()
            if not arguments.only or name in arguments.only
        }
        with (
            _table(arguments.out, COLUMNS, sys.stdout) as write,
            _table(arguments.refused, REFUSED, io.StringIO()) as refuse,
        ):
            for name, model in chosen.items():
                kind = "MXFP4_MOE" if model["architecture"] == "gpt-oss" else arguments.quantization
                wanted = [(kind, _parse(text)) for text in arguments.setting]
                for row in measurer.rows(name, model, wanted or survey(name, model)):
                    (refuse if "refused" in row else write)(row)
    return 0


@contextmanager
def _table(
    path: Path | None, columns: tuple[str, ...], default: TextIO
) -> Iterator[Callable[[Setting], Any]]:
    """A CSV file to write rows to, another stream where there is no path."""
    with path.open("w", newline="") if path else nullcontext(default) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        yield writer.writerow


def _parse(text: str) -> Setting:
    """A setting from `n_ctx=8192,n_parallel=4`, the rest as the server has it."""
    given = dict(pair.split("=", 1) for pair in text.split(","))
    usual = {
        "n_ctx": "4096", "n_parallel": "1", "flash_attn": "1", "kv_type": "f16", "kv_unified": "0",
        "n_ubatch": "512", "device": "rpc1",
    }  # fmt: skip
    merged = {**usual, **given}
    merged.setdefault("n_outputs_max", merged["n_parallel"])
    return _setting(merged)


if __name__ == "__main__":
    raise SystemExit(main())
