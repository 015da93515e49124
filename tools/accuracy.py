"""Compares the memory model with what the engine reported, and prints a Markdown table.

    python -m tools.accuracy [MEASURED.csv …]

Without arguments it reads `tests/data/engine-memory.csv`. A figure is compared GPU by GPU: weights, cache and
compute buffer on their own, and their sum. Rows of models without a layout in `tests/data/engine-models.json`
are left out and counted.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from berth.engine import memory
from tools import measure_engine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from berth.engine.layouts import Layout

MEASURED = measure_engine.ROOT / "tests" / "data" / "engine-memory.csv"
FIGURES = ("weights", "cache", "compute", "total")
_COLUMNS = {"weights": "weights_per_device", "cache": "kv_per_device", "compute": "compute_bytes_per_device"}


@dataclass
class Tally:
    """How one model's rows compare: per figure the rows that are equal, and the extreme ratios."""

    architecture: str
    rows: int = 0
    equal: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0))
    least: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIGURES, 1.0))
    most: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIGURES, 1.0))

    def add(self, found: list[dict[str, int]], told: list[dict[str, int]]) -> None:
        """Count one row, given the figures of each device."""
        self.rows += 1
        for figure in FIGURES:
            pairs = [(mine[figure], its[figure]) for mine, its in zip(found, told, strict=True)]
            self.equal[figure] += all(mine == its for mine, its in pairs)
            ratios = [mine / its for mine, its in pairs if its]
            self.least[figure] = min(self.least[figure], *ratios, 1.0)
            self.most[figure] = max(self.most[figure], *ratios, 1.0)

    def merge(self, other: Tally) -> None:
        """Count another model's rows as well."""
        self.rows += other.rows
        for figure in FIGURES:
            self.equal[figure] += other.equal[figure]
            self.least[figure] = min(self.least[figure], other.least[figure])
            self.most[figure] = max(self.most[figure], other.most[figure])


@lru_cache(maxsize=512)
def _layout(name: str, quantization: str) -> Layout:
    return measure_engine.layout(measure_engine.models()[name], quantization)


def compare(rows: Iterable[dict[str, str]]) -> tuple[dict[str, Tally], int]:
    """Tallies by model, and how many rows are of models without a layout."""
    known = measure_engine.models()
    tallies: dict[str, Tally] = {}
    unknown = 0
    for row in rows:
        if row["model"] not in known:
            unknown += 1
            continue
        found = memory.footprint(_layout(row["model"], row["quant"]), settings(row, known[row["model"]]))
        devices = found.gpus or (found.host,)
        mine = [
            {"weights": device.weights, "cache": device.kv_cache, "compute": device.compute}
            for device in devices
        ]
        columns = {figure: json.loads(row[column]) for figure, column in _COLUMNS.items()}
        told = [
            {figure: int(values[index]) for figure, values in columns.items()}
            for index in range(len(devices))
        ]
        for figures in (*mine, *told):
            figures["total"] = sum(figures.values())
        tallies.setdefault(row["model"], Tally(row["arch"])).add(mine, told)
    return tallies, unknown


def settings(row: dict[str, str], model: dict[str, object]) -> memory.Settings:
    """The settings of a measured row; a pooling type means that embeddings were asked for."""
    key, _, value = row["kv_type"].partition("/")
    metadata = model["metadata"]
    return memory.Settings(
        context=int(row["n_ctx"]),
        parallel=int(row["n_parallel"]),
        cache_type_k=key,
        cache_type_v=value or key,
        flash_attention=row["flash_attn"] == "1",
        kv_unified=row["kv_unified"] == "1",
        ubatch=int(row["n_ubatch"]),
        embeddings=isinstance(metadata, dict) and "pooling_type" in metadata,
        gpus=measure_engine.DEVICES[row["device"]],
        outputs=int(row["n_outputs_max"]) or 2048,
    )


def table(tallies: dict[str, Tally]) -> str:
    """A Markdown table: one line per model and one for all."""
    everything = Tally("all")
    for tally in tallies.values():
        everything.merge(tally)
    lines = [
        "| model | architecture | rows | weights equal | cache equal | compute equal | compute at worst "
        "| total at worst | ever below |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, tally in [*sorted(tallies.items()), ("**all**", everything)]:
        shares = " | ".join(f"{100 * tally.equal[figure] / tally.rows:.1f} %" for figure in FIGURES[:3])
        worst = " | ".join(f"{100 * (tally.most[figure] - 1):+.2f} %" for figure in ("compute", "total"))
        below = min(tally.least.values())
        lines.append(
            f"| {name} | {tally.architecture} | {tally.rows} | {shares} | {worst} | "
            f"{'never' if below >= 1 else f'{100 * (below - 1):.4f} %'} |"
        )
    return "\n".join(lines)


def accuracy(rows: Iterable[dict[str, str]]) -> str:
    """The table for measured rows."""
    return table(compare(rows)[0])


def main(paths: list[str]) -> int:
    """Print the table for the files named, or for the repository's own."""
    rows: list[dict[str, str]] = []
    for path in paths or [str(MEASURED)]:
        with Path(path).open(newline="") as stream:
            rows += csv.DictReader(stream)
    tallies, unknown = compare(rows)
    if not tallies:
        print("no row is of a known model", file=sys.stderr)
        return 1
    print(table(tallies))
    if unknown:
        print(f"{unknown} rows are of models without a layout", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
