"""Asks the pinned engine's quantizer which type it would give each tensor, and writes a digest as CSV.

    python -m tools.measure_quantizer --engine SITE_PACKAGES --out tests/berth/engine/data/quantizer.csv

Each model of `tests/data/engine-models.json` is written as an F16 file without weights and given to
`llama-quantize --dry-run` for every kind of file. A row holds the bytes of all tensors, how many have each
type, and a digest over every tensor's name and type.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from berth.engine import architectures
from berth.engine.hyperparameters import Hyperparameters
from berth.engine.quantization import FILE_TYPES, source_type
from berth.engine.tensors import TYPES, Tensor
from tools import measure_engine, sparse_gguf

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = ("model", "quant", "bytes", "types", "digest")
KINDS = tuple(kind for kind in FILE_TYPES if kind not in ("F32", "F16", "BF16"))
_LINE = re.compile(
    r"^\[ *\d+/ *\d+\] +(\S+) +- \[([^]]*)\], type = +(\w+), size =.*?(?:\((\w+)\))?$", re.MULTILINE
)
_NAMES = {name.lower(): name for name in TYPES}


def digest(tensors: Iterable[Tensor]) -> str:
    """A short name for a choice of types, whatever the order."""
    lines = "\n".join(sorted(f"{tensor.name} {tensor.type}" for tensor in tensors))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def summary(tensors: Iterable[Tensor]) -> str:
    """How many tensors have each type."""
    return " ".join(f"{kind}={count}" for kind, count in sorted(Counter(t.type for t in tensors).items()))


def ask(engine: Path, source: Path, kind: str) -> list[Tensor]:
    """What the quantizer would write."""
    done = subprocess.run(
        [str(engine / "bin" / "llama-quantize"), "--dry-run", str(source), kind],
        env={**os.environ, "LD_LIBRARY_PATH": str(engine / "lib"), "GGML_NO_BACKTRACE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = []
    for name, shape, before, after in _LINE.findall(done.stdout + done.stderr):
        lengths = [int(length) for length in shape.split(",")]
        while len(lengths) > 1 and lengths[-1] == 1:
            lengths.pop()
        found.append(Tensor(name, tuple(lengths), _NAMES[(after or before).lower()]))
    if done.returncode or not found:
        raise RuntimeError(done.stderr[-800:])
    return found


def main() -> int:
    """Ask for every model and kind of file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, required=True, help="site-packages with the engine's wheel")
    parser.add_argument("--only", nargs="*", default=[], metavar="MODEL")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, arguments.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        source = Path(folder) / "model.gguf"
        for name, model in measure_engine.models().items():
            if arguments.only and name not in arguments.only:
                continue
            metadata = measure_engine.metadata(model)
            kinds = ("MXFP4_MOE",) if model["architecture"] == "gpt-oss" else KINDS
            numbers = Hyperparameters.from_metadata(metadata, model["vocabulary"])
            rows = architectures.table(numbers, model.get("features", {}))
            tensors = [Tensor(row, shape, source_type(row, shape, "F16")) for row, shape in rows]
            keys = sparse_gguf.engine_metadata(metadata, model["vocabulary"])
            sparse_gguf.write(source, keys, tensors)
            for kind in kinds:
                try:
                    found = ask(arguments.engine, source, kind)
                except RuntimeError as error:
                    print(f"{name} {kind}: {error}", file=sys.stderr)
                    continue
                size = sum(tensor.size for tensor in found)
                writer.writerow(
                    dict(zip(COLUMNS, (name, kind, size, summary(found), digest(found)), strict=True))
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
