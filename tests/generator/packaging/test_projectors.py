"""A model and its projector in one image, as Workspaces look for both in one source."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from berth.errors import BerthError
from generator import packaging
from generator.commands import package as command
from tests.generator.packaging.conftest import Silent, extracted
from tests.serving import tiny_projectors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def mmproj(tmp_path: Path) -> Path:
    return tiny_projectors.write(tmp_path / "mmproj-f16.gguf", "gemma3")


def test_both_files_lie_in_one_folder_a_layer_each(
    gguf: Callable[..., Path], mmproj: Path, skopeo: Callable[..., str], tmp_path: Path
) -> None:
    file = gguf()
    packaging.package(file, f"oci-dir:{tmp_path}/image", Silent(), path="tiny/model.gguf", mmproj=mmproj)
    skopeo("copy", f"oci:{tmp_path}/image:latest", f"dir:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    found = [
        extracted(tmp_path / "out" / layer["digest"].removeprefix("sha256:")) for layer in manifest["layers"]
    ]
    assert found == [
        {"tiny/model.gguf": file.read_bytes()},
        {"tiny/mmproj-f16.gguf": mmproj.read_bytes()},
    ]


def test_what_to_write_names_both(gguf: Callable[..., Path], mmproj: Path, tmp_path: Path) -> None:
    packed = packaging.package(gguf(), f"oci-dir:{tmp_path}/image", Silent(), mmproj=mmproj)
    usage = command._usage(replace(packed, reference="registry.example.com/m@sha256:0"))
    assert usage.endswith(
        "        image: registry.example.com/m@sha256:0\n        file: tiny.Q8_0.gguf\n"
        "      mmproj:\n        file: mmproj-f16.gguf"
    )


def test_a_file_that_is_no_projector_is_refused_before_anything_is_written(
    gguf: Callable[..., Path], tmp_path: Path
) -> None:
    file = gguf()
    with pytest.raises(BerthError, match=r"tiny\.Q8_0\.gguf: general\.architecture is"):
        packaging.package(file, f"oci-dir:{tmp_path}/image", Silent(), mmproj=file)
    assert not (tmp_path / "image").exists()
