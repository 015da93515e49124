"""The plan's bytes against what the real engine takes: a small model of every architecture in the catalogue.

Each is a catalogue's model with as few layers, experts and words as show everything that it has. The engine
really loads it, on an RPC server that stands in for a GPU, and allocates its caches and buffers.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from berth.engine.memory import Settings, footprint
from berth.errors import InvalidSettings
from tools import measure_engine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = pytest.mark.slow

WORDS, EXPERTS, WIDTH = 1024, 8, 1024


def smallest() -> dict[str, tuple[str, dict[str, Any]]]:
    """The smallest model of every architecture in the catalogue, by architecture."""
    models = sorted(measure_engine.presets().items(), key=lambda item: weight(item[1]), reverse=True)
    return {model["architecture"]: (name, model) for name, model in models}


def weight(model: dict[str, Any]) -> int:
    return int(model["metadata"]["embedding_length"]) * int(model["metadata"]["block_count"])


def shrunk(model: dict[str, Any]) -> dict[str, Any]:
    """The same model with few layers, experts and words; every kind of layer that it has stays."""
    numbers = dict(model["metadata"])
    layers = numbers["block_count"]
    lists = {key: value for key, value in numbers.items() if isinstance(value, list) and len(value) == layers}
    kept = max(
        2,
        numbers.get("full_attention_interval", 0),
        numbers.get("leading_dense_block_count", 0) + 1,
        *(max(map(values.index, values)) + 1 for values in lists.values()),
    )
    numbers |= {"block_count": kept} | {key: values[:kept] for key, values in lists.items()}
    for key, most in (
        ("feed_forward_length", WIDTH),
        ("expert_count", EXPERTS),
        ("expert_used_count", EXPERTS // 2),
        ("vocab_size", WORDS),
    ):
        if key in numbers:
            value = numbers[key]
            numbers[key] = [min(most, one) for one in value] if isinstance(value, list) else min(most, value)
    if model["architecture"] == "deepseek2":
        # the engine takes a model without the low rank only with the number of layers that the real one has
        numbers.setdefault("attention.q_lora_rank", 512)
    return {**model, "metadata": numbers, "vocabulary": WORDS}


def rows(model: dict[str, Any]) -> list[measure_engine.Setting]:
    """The usual cache and a quantized one."""
    encoder = model["metadata"].get("attention.causal") is False or "pooling_type" in model["metadata"]
    context, outputs = (512, 2048) if encoder else (2048, 2)
    return [
        {
            "n_ctx": context, "n_parallel": 2, "flash_attn": 1, "kv_type": kind, "kv_unified": 0,
            "n_ubatch": 512, "n_outputs_max": outputs, "device": "rpc1",
        }
        for kind in ("f16", "q8_0")
    ]  # fmt: skip


def settings(row: measure_engine.Setting) -> Settings:
    return Settings(
        row["n_ctx"],
        parallel=row["n_parallel"],
        cache_type_k=row["kv_type"],
        cache_type_v=row["kv_type"],
        embeddings=row["n_outputs_max"] > row["n_parallel"],
        outputs=row["n_outputs_max"],
    )


SMALLEST = smallest()


@pytest.mark.parametrize("architecture", sorted(SMALLEST), ids=lambda name: f"{name} takes what is planned")
def test_the_engine_takes_what_is_planned(engine: Engine, tmp_path: Path, architecture: str) -> None:
    name, model = SMALLEST[architecture]
    model = shrunk(model)
    quantization = "MXFP4_MOE" if architecture == "gpt-oss" else "Q4_K_M"
    layout = measure_engine.layout(model, quantization)
    measurer = measure_engine.Measurer(engine.folder, tmp_path, allocate=True)
    wanted = [(quantization, row) for row in rows(model)]
    measured = list(measurer.rows(name, model, wanted))
    assert len(measured) == len(wanted)
    assert "refused" not in measured[0]
    for row in measured:
        if "refused" in row:
            with pytest.raises(InvalidSettings):
                footprint(layout, settings(row))
            continue
        planned = footprint(layout, settings(row))
        told = {
            f"{place} {kind}": row[column]
            for (place, prefix), (kind, suffix) in product(
                (("GPU", ""), ("host", "host_")),
                (("weights", "weights_bytes"), ("cache", "kv_bytes"), ("compute", "compute_bytes")),
            )
            for column in (f"{prefix}{suffix}",)
        }
        assert {
            "GPU weights": planned.gpus[0].weights,
            "GPU cache": planned.gpus[0].kv_cache,
            "GPU compute": planned.gpus[0].compute,
            "host weights": planned.host.weights,
            "host cache": planned.host.kv_cache,
            "host compute": planned.host.compute,
        } == told
