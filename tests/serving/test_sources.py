"""Plan and front say the same of what an image's digest pins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from berth import plans
from serving import sources

IMAGE = f"registry.example.com/m@sha256:{'1' * 64}"
OTHER = f"registry.example.com/a@sha256:{'2' * 64}"


def written() -> dict[str, Any]:
    """A plan's part as it stands in a pod."""
    weights = plans.Weights(image=IMAGE, file="/gemma/m.gguf", size=1, pinned=True)
    adapter = plans.Adapter(name="sql", image=OTHER, file="a.gguf", size=1, pinned=True)
    server = plans.Server(
        model="m", alias="m", quantization="Q8_0", context_size=1, parallel=1, gpu_layers=1, gpus=1,
        adapters=(adapter,),
        mmproj=plans.Projector(file="gemma/mm.gguf", size=1, image_tokens=64, batch_tokens=1024),
    )  # fmt: skip
    found = {"weights": weights, "server": server}
    return {name: json.loads(part.model_dump_json(by_alias=True)) for name, part in found.items()}


def test_every_file_of_a_pod_is_found_by_its_path() -> None:
    assert sources.images(written()) == {
        Path("/models/gemma/m.gguf"): IMAGE,
        Path("/models/gemma/mm.gguf"): IMAGE,
        Path("/adapters/sql/a.gguf"): OTHER,
    }


@pytest.mark.parametrize(
    "plan",
    [
        None,
        {},
        {"weights": {"hf": "a/b", "file": "m.gguf"}, "server": {}},
        {"weights": [], "server": {"mmproj": None, "adapters": None}},
        {"server": {"adapters": ["sql", {"name": "sql"}]}},
    ],
    ids=["none", "empty", "from a hub", "of another shape", "other adapters"],
)
def test_a_plan_that_names_no_image_says_nothing(plan: dict[str, Any] | None) -> None:
    assert sources.images(plan) == {}
