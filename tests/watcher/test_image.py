"""The watcher's image, built and started for real; `tests/images.py` says how and when."""

from __future__ import annotations

import pytest

from tests import images
from tests.images import inside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

IMAGE = "localhost/berth-test-watcher:0.1.0"
LARGEST_BYTES = 100 * 2**20
"""What the image may add to its base: Python with its packages, and our own code."""


@pytest.fixture(scope="module")
def base() -> str:
    return images.base("watcher")


@pytest.fixture(scope="module")
def image(base: str) -> str:
    images.build("watcher", IMAGE, "--build-arg", f"BASE={base}")
    return IMAGE


def test_the_image_looks_for_a_cluster_and_says_that_it_finds_none(image: str) -> None:
    told = inside(image, "python -m watcher --kubeconfig /tmp/none 2>&1 || echo ended with $?")
    assert "no credentials for an API server" in told
    assert "ended with" in told


def test_nothing_in_the_image_is_writable_or_compiles(image: str) -> None:
    assert images.weaknesses(image) == []


def test_the_image_is_small(image: str, base: str) -> None:
    assert images.size(image) - images.size(base) < LARGEST_BYTES
