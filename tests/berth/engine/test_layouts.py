"""Layouts of files: what a header makes of a model, whole, split, incomplete or foreign."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from berth.engine import architectures, gguf, layouts
from berth.engine.gguf import Header
from berth.engine.hyperparameters import Hyperparameters
from berth.engine.tensors import Tensor
from berth.errors import InvalidGguf, UnknownArchitecture

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
MODELS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/data/engine-models.json").read_text())


def tool(name: str) -> ModuleType:
    """A module of tools/, which is no package of the product."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metadata(model: dict[str, Any]) -> dict[str, Any]:
    architecture = model["architecture"]
    own = {f"{architecture}.{key}": value for key, value in model["metadata"].items()}
    return {"general.architecture": architecture, **own, **model.get("more", {})}


def preset(name: str, kind: str = "Q8_0") -> layouts.Layout:
    model = MODELS[name]
    kind = "MXFP4_MOE" if model["architecture"] == "gpt-oss" else kind
    return layouts.preset(
        metadata(model), kind, vocabulary=model["vocabulary"], features=model.get("features", {})
    )


def header(name: str, tensors: tuple[Tensor, ...] | None = None, **changes: Any) -> Header:
    model = MODELS[name]
    keys = metadata(model)
    keys[f"{model['architecture']}.vocab_size"] = model["vocabulary"]
    values: dict[str, Any] = {
        "version": 3, "metadata": keys, "tensors": preset(name).tensors if tensors is None else tensors,
        "alignment": 32, "data_offset": 0, "file_size": 0, "split_count": 0, "split_number": 0,
    }  # fmt: skip
    return Header(**{**values, **changes})


@pytest.mark.parametrize("name", MODELS, ids=lambda name: f"{name} is the same as file and as preset")
def test_a_file_on_disk_is_the_preset(name: str, tmp_path: Path) -> None:
    model, expected = MODELS[name], preset(name)
    sparse = tool("sparse_gguf")
    path = tmp_path / "model.gguf"
    keys = sparse.engine_metadata(metadata(model), model["vocabulary"])
    size = sparse.write(path, keys, expected.tensors)
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 < 4 * 2**20, "the weights are a hole in the file"
    with path.open("rb") as stream:
        found = layouts.from_header(gguf.read_header(stream, size))
    assert found.tensors == expected.tensors
    for field, value in dataclasses.asdict(expected.hyperparameters).items():
        told = getattr(found.hyperparameters, field)
        assert told == (pytest.approx(value) if isinstance(value, float) else value), field


@pytest.mark.parametrize("name", MODELS, ids=lambda name: f"the features of {name} show in its tensors")
def test_features_are_seen_in_the_tensors(name: str) -> None:
    found = preset(name)
    seen = architectures.features_of(found.hyperparameters, found.by_name)
    rows = architectures.table(found.hyperparameters, seen)
    assert sorted(row for row, _ in rows) == sorted(found.by_name)


def test_every_tensor_has_one_place() -> None:
    for name in MODELS:
        found = preset(name)
        placed = [t for part in (*found.layers, found.output, found.everywhere, found.input) for t in part]
        twice = found.tied and found.hyperparameters.architecture not in architectures.ENCODERS
        assert len(placed) == len(found.tensors) + twice, name
        assert set(placed) == set(found.tensors), name


def test_parts_of_a_split_model_make_one() -> None:
    tensors = preset("qwen3-0.6b").tensors
    parts = [
        header("qwen3-0.6b", tensors[200:], split_count=2, split_number=1, metadata={}),
        header("qwen3-0.6b", tensors[:200], split_count=2, split_number=0),
    ]
    assert layouts.from_headers(parts).tensors == tensors


@pytest.mark.parametrize("number", [0, 1], ids=["the first part alone", "the second part alone"])
def test_a_part_of_a_split_model_is_refused(number: int) -> None:
    with pytest.raises(InvalidGguf, match="split into 2 files and all are needed"):
        layouts.from_header(header("qwen3-0.6b", split_count=2, split_number=number))


@pytest.mark.parametrize("lost", ["token_embd.weight", "blk.3.attn_q.weight", "output_norm.weight"])
def test_a_file_that_lacks_a_tensor_is_refused(lost: str) -> None:
    rest = tuple(tensor for tensor in preset("qwen3-0.6b").tensors if tensor.name != lost)
    with pytest.raises(InvalidGguf, match=rf"lacks the tensor {lost}"):
        layouts.from_header(header("qwen3-0.6b", rest))


def test_a_tensor_of_another_shape_is_refused() -> None:
    changed = tuple(
        tensor._replace(shape=(32, 32)) if tensor.name == "blk.0.ffn_up.weight" else tensor
        for tensor in preset("qwen3-0.6b").tensors
    )
    with pytest.raises(InvalidGguf, match=r"blk\.0\.ffn_up\.weight has the shape"):
        layouts.from_header(header("qwen3-0.6b", changed))


def test_layers_for_drafting_are_not_loaded() -> None:
    keys = {**metadata(MODELS["glm-4.5-air"]), "glm4moe.nextn_predict_layers": 1, "glm4moe.block_count": 47,
            "glm4moe.vocab_size": 151552}  # fmt: skip
    extra = Tensor("blk.46.nextn.eh_proj.weight", (8192, 4096), "Q8_0")
    tensors = (*preset("glm-4.5-air").tensors, extra)
    found = layouts.from_header(header("glm-4.5-air", tensors, metadata=keys))
    assert found.hyperparameters.main_layers == 46
    assert found.layers[46] == ()
    assert extra.size + preset("glm-4.5-air").size == found.size


def test_a_file_of_an_unknown_architecture_is_refused() -> None:
    keys = {"general.architecture": "wavtokenizer-dec", "wavtokenizer-dec.block_count": 1,
            "wavtokenizer-dec.embedding_length": 8, "wavtokenizer-dec.context_length": 8}  # fmt: skip
    with pytest.raises(UnknownArchitecture, match="wavtokenizer-dec"):
        layouts.from_header(header("qwen3-0.6b", metadata=keys))


def _numbers(**changes: Any) -> Hyperparameters:
    keys = {"block_count": 12, "embedding_length": 256, "context_length": 4096, "attention.head_count": 4}
    keys |= {key.replace("__", "."): value for key, value in changes.items() if key != "architecture"}
    architecture = changes.get("architecture", "gemma3")
    own = {f"{architecture}.{key}": value for key, value in keys.items()}
    return Hyperparameters.from_metadata({"general.architecture": architecture, **own})


_BAD_NUMBERS: dict[str, dict[str, Any]] = {
    "no layers": {"block_count": 0},
    "more layers than the engine has": {"block_count": 513},
    "a billion layers": {"block_count": 10**9},
    "a negative number of heads": {"attention__head_count": -1},
    "heads as text": {"attention__head_count": "many"},
    "heads as truth value": {"attention__head_count": True},
    "heads for too few layers": {"attention__head_count": [4, 4]},
    "an enormous embedding": {"embedding_length": 2**60},
    "an embedding of zero": {"embedding_length": 0},
    "too many experts": {"expert_count": 4096},
    "only layers for drafting": {"nextn_predict_layers": 12},
    "a scale that is no number": {"logit_scale": float("nan")},
    "a scale that is text": {"logit_scale": "big"},
    "a switch that is a number": {"attention__causal": 1},
}


@pytest.mark.parametrize("changes", _BAD_NUMBERS.values(), ids=_BAD_NUMBERS)
def test_senseless_numbers_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidGguf, match=r"^gemma3\."):
        _numbers(**changes)


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "context_length"])
def test_a_missing_number_is_named(key: str) -> None:
    keys = {"general.architecture": "llama", "llama.block_count": 1, "llama.embedding_length": 64,
            "llama.context_length": 64, "llama.attention.head_count": 1}  # fmt: skip
    del keys[f"llama.{key}"]
    with pytest.raises(InvalidGguf, match=key):
        Hyperparameters.from_metadata(keys)


def test_no_architecture_is_no_model() -> None:
    with pytest.raises(InvalidGguf, match=r"general\.architecture"):
        Hyperparameters.from_metadata({"general.name": "x"})


def _full(numbers: Hyperparameters) -> list[int]:
    return [layer for layer, windowed in enumerate(numbers.windowed) if not windowed]


_PATTERNS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "every sixth layer of Gemma 3 is full": ({"attention__sliding_window": 512}, [5, 11]),
    "without a window all are": ({}, list(range(12))),
    "a period in the file wins": (
        {"attention__sliding_window": 512, "attention__sliding_window_pattern": 3}, [2, 5, 8, 11],
    ),
    "a list in the file wins": (
        {"attention__sliding_window": 512, "attention__sliding_window_pattern": [True] * 11 + [False]}, [11],
    ),
    "every second of Gemma 2": ({"architecture": "gemma2"}, [1, 3, 5, 7, 9, 11]),
    "ModernBERT begins with a full one": (
        {"architecture": "modern-bert", "attention__sliding_window": 128}, [0, 3, 6, 9],
    ),
    "Phi 3's window is ignored by the engine": (
        {"architecture": "phi3", "attention__sliding_window": 2047}, list(range(12)),
    ),
    "EXAONE 4 has windows in its large form only": (
        {"architecture": "exaone4", "attention__sliding_window": 4096}, list(range(12)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "full"), _PATTERNS.values(), ids=_PATTERNS)
def test_windows_are_those_of_the_engine(changes: dict[str, Any], full: list[int]) -> None:
    assert _full(_numbers(**changes)) == full


def test_recurrent_layers_are_those_of_the_engine() -> None:
    kv_heads = [0, 0, 2] * 4
    granite = _numbers(architecture="granitehybrid", attention__head_count_kv=kv_heads)
    assert granite.recurrent == (True, True, False) * 4
    assert _numbers(architecture="qwen35").recurrent == (True, True, True, False) * 3
    assert _numbers(architecture="qwen35", full_attention_interval=6).recurrent[5::6] == (False, False)
    assert not any(_numbers(architecture="llama").recurrent)


def test_small_models_of_deepseek_have_plain_queries() -> None:
    ranks = {"attention__q_lora_rank": 1536, "attention__kv_lora_rank": 512, "architecture": "deepseek2"}
    assert _numbers(**ranks, block_count=27).q_lora_rank == 0
    assert _numbers(**ranks, block_count=61).q_lora_rank == 1536
