"""The serving image, built and started for real: no registry is needed, and minutes are.

It is built from `serving/Dockerfile` with the engine of `make engine`; `tests/images.py` says how and when.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests import images
from tests.images import inside, page, run
from tests.serving.processes import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGE = "localhost/berth-test-serving:cpu"
LARGEST_BYTES = 300 * 2**20
"""What the image may add to its base: Python with its packages, and the engine with every CPU's variant."""

END_SECONDS = 30


@pytest.fixture(scope="module")
def base() -> str:
    return images.base("serving")


@pytest.fixture(scope="module")
def image(base: str, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, with the engine that was built before."""
    if not (engine.folder / "recipe.json").is_file():
        images.absent("serving", f"{engine.folder} is not a build of `make engine`")
    context = tmp_path_factory.mktemp("engine")
    shutil.copytree(engine.folder, context / "opt" / "berth" / "engine", symlinks=True)
    images.build(
        "serving", IMAGE, "--build-context", f"engine={context}",
        "--build-arg", f"BUILD_BASE={base}", "--build-arg", f"BASE={base}",
    )  # fmt: skip
    return IMAGE


def test_the_image_answers_as_the_originals_quick_start(image: str, model_file: Path) -> None:
    port, metrics = free_port(), free_port()
    with images.running(
        image, "--host", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics),
        "--model", f"/models/{model_file.name}", "--parallel", "2",
        mounts=(f"{model_file.parent}:/models:ro",),
        up=lambda: page(port, "/readyz")[0] == 200, seconds=90,
    ) as container:  # fmt: skip
        body = {"prompt": "The sea is", "max_length": 16}
        asked = run(
            "curl", "--silent", "--fail-with-body", "--max-time", "90", "-X", "POST",
            "-H", "Content-Type: application/json", "-d", json.dumps(body), f"http://127.0.0.1:{port}/chat",
        )  # fmt: skip
        told: dict[str, Any] = json.loads(asked)
        assert told["Result"].startswith("The sea is")
        assert len(told["Result"]) > len("The sea is")
        assert images.end(container)[0] < END_SECONDS


def test_the_image_runs_a_worker(image: str) -> None:
    port, metrics = free_port(), free_port()
    with images.running(
        image, "worker", "--metrics-host", "127.0.0.1", "--metrics-port", str(metrics),
        "--", "ggml-rpc-server", "--host", "127.0.0.1", "--port", str(port),
        up=lambda: page(metrics, "/healthz")[0] == 200, seconds=40,
    ) as container:  # fmt: skip
        assert images.end(container)[0] < END_SECONDS


def test_nothing_in_the_image_is_writable_or_compiles(image: str) -> None:
    assert images.weaknesses(image) == []


def test_the_image_is_small(image: str, base: str) -> None:
    assert images.size(image) - images.size(base) < LARGEST_BYTES


def test_the_copy_program_comes_out_of_the_image_and_needs_no_library(image: str, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    tools.chmod(0o777)
    inside(image, "python -m serving tools --to /berth/copy", "--volume", f"{tools}:/berth")
    source = tmp_path / "model.gguf"
    source.write_bytes(b"GGUF")
    run(tools / "copy", "--to", tmp_path / "models", source)
    assert (tmp_path / "models" / "model.gguf").read_bytes() == b"GGUF"


def test_the_image_says_what_is_in_it(image: str) -> None:
    recipe = json.loads(inside(image, "cat /opt/berth/engine/recipe.json"))
    assert recipe["variant"] == "cpu"
    materials = json.loads(inside(image, "cat /opt/berth/engine/sbom.cdx.json"))
    assert {part["name"] for part in materials["components"]} >= {
        "llama.cpp",
        "llama-cpp-python",
        "bin/llama-server",
    }
