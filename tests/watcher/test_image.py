"""The watcher's image, built and started for real; `tests/images.py` says how and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import images
from tests.images import inside, page
from tests.serving.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IMAGE = "localhost/berth-test-watcher:0.1.0"
LARGEST_BYTES = 80 * 2**20
"""What the image may add to its base: Python with its packages, and our own code."""
END_SECONDS = 20


@pytest.fixture(scope="module")
def base() -> str:
    return images.base("watcher")


@pytest.fixture(scope="module")
def image(base: str) -> str:
    images.build("watcher", IMAGE, "--build-arg", f"BASE={base}")
    return IMAGE


@pytest.fixture
def container(image: str, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The program as a restricted pod runs it; its API server is away."""
    tmp_path.chmod(0o755)
    (tmp_path / "berth.yaml").write_text("provisioning: nodeclaim\n")
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "users": [{"name": "away", "user": {"token": "none"}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "away"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    port = free_port()
    with images.running(
        image, f"--port={port}", "--kubeconfig=/config/kubeconfig", "--fleet=/config/berth.yaml",
        mounts=(f"{tmp_path}:/config:ro",), up=lambda: page(port, "/healthz")[0] == 200,
    ) as name:  # fmt: skip
        yield name, port


def test_the_image_waits_for_its_api_server_and_ends_when_told(container: tuple[str, int]) -> None:
    name, port = container
    assert page(port, "/readyz") == (503, "waiting for the lease\n")
    assert "berth_watcher_config_reload_successful 1.0" in page(port, "/metrics")[1]
    seconds, code = images.end(name)
    assert seconds < END_SECONDS
    assert code == 0


def test_without_credentials_the_image_says_so(image: str) -> None:
    told = inside(image, "python -m watcher --kubeconfig /tmp/none 2>&1 || echo ended with $?")
    assert "no credentials for an API server" in told
    assert "ended with 77" in told


def test_nothing_in_the_image_is_writable_or_compiles(image: str) -> None:
    assert images.weaknesses(image) == []


def test_the_image_is_small(image: str, base: str) -> None:
    assert images.size(image) - images.size(base) < LARGEST_BYTES
