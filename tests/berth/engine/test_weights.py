"""Tensor tables and types, against what the pinned engine's own quantizer and loader said."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from berth.engine import architectures, layouts, quantization
from berth.engine.tensors import TYPES, Tensor, allocated, row_size
from berth.errors import CatalogError, UnknownArchitecture, UnknownQuantization

HERE = Path(__file__).parent
MODELS: dict[str, dict[str, Any]] = json.loads((HERE.parents[1] / "data" / "engine-models.json").read_text())
CHOSEN = list(csv.DictReader((HERE / "data" / "quantizer.csv").read_text().splitlines()))
MEASURED = list(csv.DictReader((HERE.parents[1] / "data" / "engine-memory.csv").read_text().splitlines()))


def layout(name: str, kind: str, *, as_published: bool = True) -> layouts.Layout:
    model = MODELS[name]
    architecture = model["architecture"]
    metadata = {f"{architecture}.{key}": value for key, value in model["metadata"].items()}
    return layouts.preset(
        {"general.architecture": architecture, **metadata, **model.get("more", {})},
        kind,
        vocabulary=model["vocabulary"],
        features=model.get("features", {}),
        as_published=as_published,
    )


@pytest.mark.parametrize("name", MODELS, ids=lambda name: f"{name} is quantized as the engine's tool does it")
def test_types_are_those_of_the_engines_quantizer(name: str) -> None:
    rows = [row for row in CHOSEN if row["model"] == name]
    assert rows
    for row in rows:
        found = layout(name, row["quant"], as_published=False)
        kinds = Counter(tensor.type for tensor in found.tensors)
        assert (row["quant"], " ".join(f"{kind}={kinds[kind]}" for kind in sorted(kinds))) == (
            row["quant"],
            row["types"],
        )
        assert (row["quant"], found.size) == (row["quant"], int(row["bytes"]))
        lines = "\n".join(sorted(f"{tensor.name} {tensor.type}" for tensor in found.tensors))
        assert hashlib.sha256(lines.encode()).hexdigest()[:12] == row["digest"], (name, row["quant"])


def _weights() -> list[dict[str, str]]:
    """One measured row per model, quantization and kind of device."""
    rows = {(row["model"], row["quant"]): row for row in MEASURED if row["device"] == "rpc1"}
    return list(rows.values())


@pytest.mark.parametrize("row", _weights(), ids=lambda row: f"{row['model']} {row['quant']} loads as told")
def test_weights_on_one_device_are_exact(row: dict[str, str]) -> None:
    found = layout(row["model"], row["quant"])
    assert found.size == int(row["tensor_bytes"])
    on_device = [tensor for part in (*found.layers, found.output, found.everywhere) for tensor in part]
    assert allocated(on_device) == int(row["weights_bytes"])
    assert allocated(found.input) == int(row["host_weights_bytes"])


def test_every_architecture_is_measured() -> None:
    assert {model["architecture"] for model in MODELS.values()} >= set(architectures.TABLES) - {
        "qwen2vl",
        "qwen3vlmoe",
        "nemotron_h",
    }


def test_fused_projections_follow_published_files() -> None:
    fused = [t for t in layout("falcon-40b", "Q4_K_M").tensors if t.name.endswith("attn_qkv.weight")]
    assert {tensor.type for tensor in fused} == {"Q5_K"}
    mixed = layout("falcon-40b", "Q4_K_M", as_published=False)
    assert {t.type for t in mixed.tensors if t.name.endswith("attn_qkv.weight")} == {"Q4_K", "Q6_K"}


def test_fused_projections_with_odd_rows_fall_back() -> None:
    fused = [t for t in layout("falcon-7b", "Q4_K_M").tensors if t.name.endswith("attn_qkv.weight")]
    assert {tensor.type for tensor in fused} == {"Q5_1"}


def test_tied_embeddings_are_counted_on_host_and_device() -> None:
    found = layout("qwen3-0.6b", "Q4_K_M")
    embedding = found.by_name["token_embd.weight"]
    assert found.tied
    assert embedding in found.input
    assert embedding in found.output


def test_encoders_have_no_output() -> None:
    assert layout("bge-small-en-v1.5", "F16").output == ()


def test_gpt_oss_exists_in_its_own_format_only() -> None:
    with pytest.raises(UnknownQuantization, match="MXFP4_MOE only"):
        layout("gpt-oss-20b", "Q4_K_M")


def test_an_unknown_quantization_names_those_that_exist() -> None:
    with pytest.raises(UnknownQuantization, match="Q4_K_M"):
        layout("llama-2-7b", "Q9_K")


def test_an_unknown_architecture_is_refused() -> None:
    metadata = {
        "general.architecture": "rwkv9",
        "rwkv9.block_count": 2,
        "rwkv9.embedding_length": 64,
        "rwkv9.context_length": 64,
        "rwkv9.attention.head_count": 1,
    }
    with pytest.raises(UnknownArchitecture, match="rwkv9"):
        layouts.preset(metadata, "F16", vocabulary=100)


def test_a_misspelt_feature_is_refused() -> None:
    with pytest.raises(CatalogError, match="tyed"):
        layouts.preset(_tiny(), "F16", vocabulary=100, features={"tyed": True})


def test_a_missing_key_is_refused() -> None:
    metadata = _tiny()
    del metadata["llama.feed_forward_length"]
    with pytest.raises(CatalogError, match="ffn_gate"):
        layouts.preset(metadata, "F16", vocabulary=100)


def test_a_missing_vocabulary_is_refused() -> None:
    with pytest.raises(CatalogError, match="vocabulary"):
        layouts.preset(_tiny(), "F16")


def _tiny() -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.context_length": 64,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 2,
    }


def test_a_row_length_that_fits_nothing_stays_f16() -> None:
    metadata = {**_tiny(), "llama.embedding_length": 72, "llama.attention.key_length": 32,
                "llama.attention.value_length": 32}  # fmt: skip
    found = layouts.preset(metadata, "Q4_K_M", vocabulary=100)
    assert found.by_name["blk.0.attn_q.weight"].type == "F16"
    assert found.by_name["blk.0.attn_output.weight"].type == "Q5_0"


@pytest.mark.parametrize(
    ("layers", "expected"), [(80, "Q5_K"), (40, "Q4_K")], ids=["70B keeps more bits", "others do not"]
)
def test_values_of_the_largest_llama_keep_more_bits(layers: int, expected: str) -> None:
    metadata = {**_tiny(), "llama.block_count": layers, "llama.embedding_length": 512,
                "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2}  # fmt: skip
    found = layouts.preset(metadata, "Q4_K_M", vocabulary=256)
    kinds = Counter(t.type for t in found.tensors if t.name.endswith("attn_v.weight"))
    assert kinds == {expected: layers // 2, "Q6_K": layers - layers // 2} or set(kinds) == {expected, "Q6_K"}


def test_floats_keep_vectors_norms_and_routers_in_full() -> None:
    found = layout("qwen3-30b-a3b", "BF16")
    assert found.by_name["blk.0.ffn_gate_inp.weight"].type == "F32"
    assert found.by_name["blk.0.attn_norm.weight"].type == "F32"
    assert found.by_name["blk.0.ffn_up_exps.weight"].type == "BF16"


def test_sizes_are_whole_blocks() -> None:
    assert Tensor("x", (256, 3), "Q4_K").size == 3 * 144
    assert row_size("Q8_0", 128) == 4 * 34
    assert allocated([Tensor("x", (3,), "F32")]) == 32
    assert all(block > 0 and size > 0 for _, block, size in TYPES.values())


def test_every_kind_of_file_has_its_main_type() -> None:
    found = {kind: layout("mistral-7b", kind) for kind in quantization.FILE_TYPES if kind != "MXFP4_MOE"}
    for kind, main in quantization.FILE_TYPES.items():
        if kind in found:
            types = Counter(t.type for t in found[kind].tensors if len(t.shape) > 1)
            assert types.most_common(1)[0][0] == main
    ascending = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16", "F32")
    assert sorted(ascending, key=lambda kind: found[kind].size) == list(ascending)


def test_a_large_model_is_laid_out_quickly() -> None:
    start = time.perf_counter()
    layout("qwen2.5-72b", "Q4_K_M")
    assert time.perf_counter() - start < 0.5
