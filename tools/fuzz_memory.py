"""Compares the memory model with the pinned engine on random models and settings, byte for byte.

    python -m tools.fuzz_memory --engine SITE_PACKAGES --models 40 --seed 1

Models are those of `tests/data/engine-models.json` and the catalogue's; settings are drawn from what
llama-server takes, among them ones that the engine refuses: then the model must refuse them too.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth.engine import memory
from berth.errors import BerthError
from tools import measure_engine

if TYPE_CHECKING:
    from berth.engine.layouts import Layout

_QUANTIZATIONS = ("Q4_K_M", "Q8_0", "Q5_K_S", "F16", "IQ4_XS", "Q3_K_M")
_CHOICES: dict[str, tuple[Any, ...]] = {
    "n_ctx": (512, 777, 2048, 4096, 6000, 10_000, 16_384, 30_000, 65_536, 131_072, 200_000),
    "n_parallel": (1, 2, 3, 4, 6, 8, 16),
    "flash_attn": (0, 1, 1),
    "kv_type": ("f16", "f16", "q8_0", "q4_0", "bf16", "f32", "q5_1", "q8_0/q4_0", "f16/q8_0", "iq4_nl"),
    "kv_unified": (0, 1),
    "n_ubatch": (32, 64, 128, 256, 512, 512, 1024, 2048),
    "device": ("rpc1", "rpc1", "rpc2"),
}
_PER_MODEL = 5


def settings_of(row: dict[str, Any]) -> memory.Settings:
    """A measured row's settings as the memory model takes them."""
    key, _, value = str(row["kv_type"]).partition("/")
    two = row["device"] == "rpc2"
    return memory.Settings(
        context=int(row["n_ctx"]),
        parallel=int(row["n_parallel"]),
        cache_type_k=key,
        cache_type_v=value or key,
        flash_attention=bool(int(row["flash_attn"])),
        kv_unified=bool(int(row["kv_unified"])),
        ubatch=int(row["n_ubatch"]),
        embeddings=int(row["n_outputs_max"]) > int(row["n_parallel"]),
        gpus=2 if two else 1,
        tensor_split=(1, 1) if two else (),
    )


def difference(layout: Layout, row: dict[str, Any]) -> str | None:
    """What the model says differently from the engine, None where they agree."""
    try:
        found = memory.footprint(layout, settings_of(row))
    except BerthError as error:
        return None if "refused" in row else f"the model refuses: {error}"
    if "refused" in row:
        return f"the engine refuses: {row['refused']}"
    told = {
        "weights": [gpu.weights for gpu in found.gpus],
        "cache": [gpu.kv_cache for gpu in found.gpus],
        "compute": [gpu.compute for gpu in found.gpus],
        "host": [found.host.weights, found.host.compute],
    }
    measured = {
        "weights": json.loads(row["weights_per_device"]),
        "cache": json.loads(row["kv_per_device"]),
        "compute": json.loads(row["compute_bytes_per_device"]),
        "host": [row["host_weights_bytes"], row["host_compute_bytes"]],
    }
    wrong = {part: (told[part], measured[part]) for part in told if told[part] != measured[part]}
    return f"model, engine: {wrong}" if wrong else None


def _wanted(source: random.Random, model: dict[str, Any]) -> list[tuple[str, measure_engine.Setting]]:
    quantization = source.choice(_QUANTIZATIONS)
    if model["architecture"] == "gpt-oss":
        quantization = "MXFP4_MOE"
    embeds = "pooling_type" in model["metadata"]
    rows = []
    for _ in range(_PER_MODEL):
        row = {key: source.choice(values) for key, values in _CHOICES.items()}
        row["n_outputs_max"] = 2048 if embeds else row["n_parallel"]
        rows.append((quantization, row))
    return rows


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", type=Path, required=True, help="site-packages with the engine's wheel")
    parser.add_argument("--models", type=int, default=20, help="how many models to draw")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    source = random.Random(arguments.seed)
    known = measure_engine.models() | {f"preset {n}": m for n, m in measure_engine.presets().items()}
    rows = refused = different = 0
    with tempfile.TemporaryDirectory() as folder:
        measurer = measure_engine.Measurer(arguments.engine, Path(folder))
        for name in source.sample(sorted(known), min(arguments.models, len(known))):
            wanted = _wanted(source, known[name])
            layout = measure_engine.layout(known[name], wanted[0][0])
            for row in measurer.rows(name, known[name], wanted):
                wrong = difference(layout, row)
                rows += 1
                refused += "refused" in row
                different += wrong is not None
                if wrong:
                    print(name, row["quant"], {key: row[key] for key in measure_engine.SETTING}, wrong)
    print(f"{rows} settings, of which the engine refuses {refused}; {different} differ")
    return int(different > 0)


if __name__ == "__main__":
    raise SystemExit(main())
