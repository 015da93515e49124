"""`berth size --mmproj`: what images add to a model's figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog, projectors
from berth.errors import BerthError
from generator import sizes
from tests.serving import tiny_projectors

if TYPE_CHECKING:
    from pathlib import Path

USUAL: dict[str, Any] = {
    "quantization": None,
    "context": 4096,
    "parallel": 1,
    "cache_type_k": "f16",
    "cache_type_v": "f16",
    "batch": None,
    "ubatch": None,
    "flash_attention": True,
    "kv_unified": False,
    "gpus": 1,
    "gpu": None,
}


def sized(model: str, **changes: Any) -> sizes.Sized:
    return sizes.size(sizes.Asked(model, **{**USUAL, **changes}))


@pytest.mark.parametrize("gpus", [1, 2], ids=["one GPU", "two GPUs"])
def test_the_first_gpu_takes_a_projector_more(gpus: int) -> None:
    text, seeing = sized("gemma-3-4b-it", gpus=gpus), sized("gemma-3-4b-it", gpus=gpus, mmproj="preset")
    first, *others = seeing.memory.gpus
    assert first.projector is not None
    assert first.total == text.memory.gpus[0].total + first.projector
    assert others == list(text.memory.gpus[1:])
    document = json.loads(sizes.to_json(seeing))
    assert document["gpus"][0]["projector"] == first.projector
    assert "projector" not in sizes.to_json(text)


def test_a_bound_on_images_tokens_makes_it_smaller() -> None:
    taken = [
        sized("qwen3.5-4b", mmproj="preset", image_max_tokens=most).memory.gpus[0].projector or 0
        for most in (None, 1024, 256)
    ]
    assert taken == sorted(taken, reverse=True)
    assert len(set(taken)) == 3


def test_a_file_takes_what_its_header_says(tmp_path: Path) -> None:
    model = tiny_projectors.write_text(tmp_path / "text.gguf")
    mmproj = tiny_projectors.write(tmp_path / "mmproj.gguf", "gemma3")
    found = sized(str(model), mmproj=str(mmproj)).memory.gpus[0].projector
    assert found is not None
    assert found > mmproj.stat().st_size


def test_the_table_has_a_column_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    sizes.show(sized("gemma-3-4b-it", mmproj="preset"))
    assert "Projector" in capsys.readouterr().out
    sizes.show(sized("gemma-3-4b-it"))
    assert "Projector" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        pytest.param(
            "llama-2-7b", {"mmproj": "preset"}, "nothing says what images take with llama-2-7b", id="unknown"
        ),
        pytest.param("gemma-3-4b-it", {"mmproj": "yes"}, "neither a .gguf file nor the word", id="a word"),
        pytest.param("gemma-3-4b-it", {"image_max_tokens": 64}, "means nothing without", id="a bound alone"),
        pytest.param(
            "gemma-3-4b-it",
            {"mmproj": "preset", "image_max_tokens": 64},
            "scales all to one size",
            id="a bound that changes nothing",
        ),
        pytest.param(
            "gemma-3-4b-it",
            {"mmproj": "preset", "ubatch": 128},
            "256 tokens are computed at once",
            id="batches",
        ),
    ],
)
def test_what_cannot_be_is_said(model: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BerthError, match=reason):
        sized(model, **changes)


def test_it_is_what_a_plan_counts() -> None:
    known = catalog.load().model("gemma-3-4b-it").projector
    assert known is not None
    taken = projectors.measure(known)
    assert sized("gemma-3-4b-it", mmproj="preset").memory.gpus[0].projector == taken.weights + taken.compute
