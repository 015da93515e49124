"""The serving image, built and started for real: no registry is needed, and minutes are.

It is built by buildah in a chroot from `serving/Dockerfile` with the engine of `make engine`, on a base that
debootstrap makes (or that $BERTH_IMAGE_BASE names), and run by podman and runc as a restricted pod runs it.
Only where BERTH_IMAGES is set, and root; with BERTH_IMAGES=required whatever is missing is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from tests.serving.processes import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.conftest import Engine

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

BASE, IMAGE = "localhost/berth-test-base:12", "localhost/berth-test-serving:cpu"
RESTRICTED = (
    "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges",
    "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "host",
)  # fmt: skip
LARGEST_BYTES = 300 * 2**20
"""What the image may add to its base: Python with its packages, and the engine with every CPU's variant."""


def run(*command: str | Path, seconds: float = 1200) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        pytest.fail(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done.stdout


def absent(reason: str) -> NoReturn:
    if os.environ.get("BERTH_IMAGES") == "required":
        pytest.fail(f"NOT TESTED, the serving image: {reason}")
    pytest.skip(f"NOT TESTED, the serving image: {reason}")


@pytest.fixture(scope="module")
def base() -> str:
    """An image to build on: Debian without anything, by this machine's package mirror."""
    if not os.environ.get("BERTH_IMAGES"):
        absent("building it takes minutes; BERTH_IMAGES=1 asks for it")
    named = os.environ.get("BERTH_IMAGE_BASE")
    needed = ["buildah", "podman", "runc", *([] if named else ["debootstrap", "tar"])]
    missing = [program for program in needed if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        absent(f"{', '.join(missing)} not found" if missing else "it needs root")
    if named:
        return named
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        folder = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"berth-base-{os.getpid()}"
        try:
            run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder)
            archive = folder.with_suffix(".tar")
            run("tar", "-C", folder, "-cf", archive, ".")
            run("podman", "import", archive, BASE)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            folder.with_suffix(".tar").unlink(missing_ok=True)
    return BASE


@pytest.fixture(scope="module")
def image(base: str, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, with the engine that was built before; buildah keeps the layers for the next time."""
    if not (engine.folder / "recipe.json").is_file():
        absent(f"{engine.folder} is not a build of `make engine`")
    context = tmp_path_factory.mktemp("engine")
    shutil.copytree(engine.folder, context / "opt" / "berth" / "engine", symlinks=True)
    settings = tmp_path_factory.mktemp("pip") / "pip.conf"
    settings.write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    run(
        "buildah", "bud", "--isolation", "chroot", "--network", "host", "--layers",
        "--build-context", f"engine={context}",
        # this machine's certificate authorities, for a mirror of its own
        "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", "--volume", f"{settings}:/etc/pip.conf:ro",
        "--build-arg", f"BUILD_BASE={base}", "--build-arg", f"BASE={base}",
        "--file", ROOT / "serving" / "Dockerfile", "--tag", IMAGE, ROOT,
    )  # fmt: skip
    return IMAGE


@pytest.fixture
def start(image: str) -> Iterator[Callable[..., str]]:
    """Start containers as a restricted pod would; they end with the test."""
    started: list[str] = []

    def begin(*arguments: str, mounts: tuple[str, ...] = ()) -> str:
        volumes = [part for mount in mounts for part in ("--volume", mount)]
        command = ("podman", "--runtime", "runc", "run", "--detach", *RESTRICTED, *volumes, image, *arguments)
        started.append(run(*command).strip())
        return started[-1]

    yield begin
    for container in started:
        subprocess.run(
            ["podman", "rm", "--force", "--time", "5", container], check=False, capture_output=True
        )


def inside(image: str, script: str, *options: str) -> str:
    return run(
        "podman", "--runtime", "runc", "run", "--rm", *RESTRICTED, *options, "--entrypoint", "/bin/sh",
        image, "-c", script,
    )  # fmt: skip


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
    told = inside(
        image,
        "id -u; id -g; for one in cc gcc g++ c++ ld gdb make pip pip3 curl; do command -v $one; done;"
        "touch /opt/berth/x /usr/x 2>/dev/null && echo writable;"
        "find /opt/berth ! -user root; echo end",
    )
    assert told.split() == ["10001", "10001", "end"]


def test_the_image_is_small(image: str, base: str) -> None:
    sizes = [
        int(run("podman", "image", "inspect", "--format", "{{.Size}}", one).strip()) for one in (image, base)
    ]
    assert sizes[0] - sizes[1] < LARGEST_BYTES


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
