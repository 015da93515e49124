"""A projector's file becomes the part of a model's entry that plans count images with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from berth import catalog, fleet
from berth.entries import Projector
from berth.errors import BerthError
from generator import describing, projectors, sizes
from tests.serving import tiny_projectors

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.context_length": 8192,
    "llama.embedding_length": tiny_projectors.TEXT_WIDTH,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 2,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny_projectors.write(tmp_path / "mmproj-tiny.gguf", "gemma3")


def test_what_is_printed_is_what_a_fleet_file_takes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describing.explain(file, as_json=False)
    out, err = capsys.readouterr()
    printed = yaml.safe_load(out)
    assert printed["projector"]["size"] == file.stat().st_size
    entry = {
        "name": "mine",
        "metadata": NUMBERS,
        "vocabulary": 512,
        "quantizations": ["Q8_0"],
        "defaultQuantization": "Q8_0",
        **printed,
    }
    found, problems = fleet.read({"models": [entry]})
    assert found is not None, problems
    model = catalog.load().extended(models=found.models).model("mine")
    assert model.projector == Projector.model_validate(printed["projector"])
    assert "mmproj-tiny.gguf: put this into its model's entry in berth.yaml" in err
    assert "an image up to 66 tokens of a slot" in err


def test_as_json_it_is_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    describing.explain(file, as_json=False)
    as_yaml = yaml.safe_load(capsys.readouterr().out)
    describing.explain(file, as_json=True)
    assert yaml.safe_load(capsys.readouterr().out) == as_yaml


def test_colours_and_names_are_left_out(file: Path) -> None:
    kept = projectors.describe(file, sizes.header(file))["metadata"]
    assert all(key.startswith("clip.") or key == "general.architecture" for key in kept)
    assert not any("image_mean" in key or "image_std" in key for key in kept)


def test_a_projector_is_no_model(file: Path) -> None:
    with pytest.raises(
        BerthError, match=r"mmproj-tiny is a projector \(mmproj\) and no model; `berth explain`"
    ):
        describing.describe(file)


def test_one_that_berth_does_not_know_is_refused_with_its_file(file: Path) -> None:
    header = sizes.header(file)
    metadata = {**header.metadata, "clip.projector_type": "telescope"}
    with pytest.raises(BerthError, match=r"mmproj-tiny\.gguf: there is no memory model of the projector"):
        projectors.describe(file, type(header)(**{**vars(header), "metadata": metadata}))
