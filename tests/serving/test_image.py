"""The serving image, built and started for real: no registry is needed, and minutes are.

It is built from `serving/Dockerfile` with the engine of `make engine`; `tests/images.py` says how and when.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests import images
from tests.images import RESTRICTED, inside, run
from tests.serving.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGE = "localhost/berth-test-serving:cpu"
LARGEST_BYTES = 300 * 2**20
"""What the image may add to its base: Python with its packages, and the engine with every CPU's variant."""


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


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., str]]:
    """Start containers as a restricted pod would; they end with the test."""
    started: list[str] = []

    def begin(*arguments: str, mounts: tuple[str, ...] = ()) -> str:
        volumes = [part for mount in mounts for part in ("--volume", mount)]
        command = (*images.PODMAN, "run", "--detach", *RESTRICTED, *volumes, image, *arguments)
        started.append(run(*command).strip())
        return started[-1]

    yield begin
    for container in started:
        images.remove(container)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_the_image_answers_as_the_originals_quick_start(start: Callable[..., str], model_file: Path) -> None:
    port, metrics = free_port(), free_port()
    container = start(
        "--host", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics),
        "--model", f"/models/{model_file.name}", "--parallel", "2",
        mounts=(f"{model_file.parent}:/models:ro",),
    )  # fmt: skip
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "the model is served", 90)
    except BaseException:
        print(subprocess.run(["podman", "logs", container], capture_output=True, text=True, check=False))
        raise
    body = {"prompt": "The sea is", "max_length": 16}
    asked = run(
        "curl", "--silent", "--fail-with-body", "--max-time", "90", "-X", "POST",
        "-H", "Content-Type: application/json", "-d", json.dumps(body), f"http://127.0.0.1:{port}/chat",
    )  # fmt: skip
    told: dict[str, Any] = json.loads(asked)
    assert told["Result"].startswith("The sea is")
    assert len(told["Result"]) > len("The sea is")
    began = time.monotonic()
    run("podman", "stop", "--time", "60", container)
    assert time.monotonic() - began < 30


def test_the_image_runs_a_worker(start: Callable[..., str]) -> None:
    port, metrics = free_port(), free_port()
    start(
        "worker", "--metrics-host", "127.0.0.1", "--metrics-port", str(metrics),
        "--", "ggml-rpc-server", "--host", "127.0.0.1", "--port", str(port),
    )  # fmt: skip
    wait_until(lambda: answers(f"http://127.0.0.1:{metrics}/healthz"), "a healthy worker")


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
