"""A GGUF file becomes an entry of berth.yaml that counts it to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from berth import catalog, fleet, models
from berth.engine.tensors import Tensor
from berth.errors import BerthError
from generator import describing
from tools import sparse_gguf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from berth.models import Model

BERTH = Path(sys.executable).with_name("berth")
KNOWN = catalog.load()
ONE_OF_EACH = {model.metadata["general.architecture"]: model for model in KNOWN.models}
TYPES = {name: number for number, name in models.FILE_TYPES.items()}


def write(path: Path, model: Model, tensors: Iterable[Tensor] | None = None) -> Path:
    """A file with the model's real header and no weights."""
    metadata = {
        **sparse_gguf.engine_metadata(model.metadata, model.vocabulary),
        "general.file_type": TYPES[model.default_quantization],
        "general.name": model.title,
    }
    sparse_gguf.write(path, metadata, model.layout().tensors if tensors is None else tensors)
    return path


@pytest.mark.parametrize("architecture", sorted(ONE_OF_EACH))
def test_an_entry_counts_every_tensor_as_the_file_has_it(architecture: str, tmp_path: Path) -> None:
    model = ONE_OF_EACH[architecture]
    if model.default_quantization not in TYPES:
        pytest.skip(f"{model.default_quantization} has no number of its own")
    entry = describing.describe(write(tmp_path / "m.gguf", model))
    found = models.parse(entry)
    assert found.layout().tensors == model.layout().tensors
    assert found.vocabulary == model.vocabulary


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "qwen3-8b"),
        ("My Model (v2).q4_k_m.gguf", "my-model-v2"),
        ("big-Q4_K_M-00001-of-00001.gguf", "big"),
        ("___.gguf", "my-model"),
        (f"{'x' * 90}.gguf", "x" * 63),
    ],
)
def test_the_name_is_the_file_s(file: str, name: str, tmp_path: Path) -> None:
    assert describing.describe(write(tmp_path / file, KNOWN.model("qwen3-8b")))["name"] == name


def test_a_file_that_is_quantized_in_its_own_way_is_refused(tmp_path: Path) -> None:
    model = KNOWN.model("qwen3-8b")
    first, *rest = model.layout().tensors
    path = write(tmp_path / "own.gguf", model, [Tensor(first.name, first.shape, "F32"), *rest])
    with pytest.raises(BerthError, match=r"1 of its \d+ tensors are not as in files of Q4_K_M"):
        describing.describe(path)


@pytest.mark.slow
def test_what_is_printed_goes_into_berth_yaml_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "My-Chat-Q4_K_M.gguf", KNOWN.model("qwen3-8b"))
    printed = subprocess.run(
        [BERTH, "explain", "My-Chat-Q4_K_M.gguf"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found, problems = fleet.read(yaml.safe_load(printed.stdout))
    assert problems == []
    assert found is not None
    assert (
        KNOWN.extended(found.models, (), {}).model("my-chat").layout().size
        == KNOWN.model("qwen3-8b").layout().size
    )
    assert "berth.yaml" in printed.stderr
    as_json = subprocess.run(
        [BERTH, "explain", "My-Chat-Q4_K_M.gguf", "--format", "json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(as_json.stdout)["name"] == "my-chat"


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"no model at all"])
def test_what_is_no_model_is_told_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "m.gguf").write_bytes(content)
    done = subprocess.run(
        [BERTH, "explain", "m.gguf"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
