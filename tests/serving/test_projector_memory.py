"""A projector's bytes against what the real engine takes for its largest images, for every known type.

The engine runs without a warm-up, so that it makes its buffers for the first images that come, and tells
their size in its log. Each type has a small encoder with all that the real ones have.
"""

from __future__ import annotations

import contextlib
import urllib.error
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from berth.engine import projectors
from berth.engine.projectors.sizes import Grid, batches, widest
from berth.images import MAX_IMAGES, host_bytes
from tests.serving import images, tiny_projectors

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = pytest.mark.slow

MAX_TOKENS = 144
"""Of an image, for types that leave a choice: enough for every shape, and soon computed."""
HIGHEST = 1.1


def planned(kind: str) -> projectors.Projector:
    return projectors.parse(tiny_projectors.metadata(kind))


def bound(projector: projectors.Projector) -> int | None:
    return MAX_TOKENS if projector.dynamic else None


def shapes() -> list[Any]:
    """The shapes of images that may take most."""
    found = []
    for kind in projectors.KNOWN:
        projector = planned(kind)
        for grid in widest(projector.kind, projector.numbers, bound(projector) or 0):
            name = f"{kind}, {grid[0]} by {grid[1]} patches"
            found.append(pytest.param(kind, grid, id=name))
    return found


def mebibytes(size: int) -> str:
    """A size as the engine's log tells it."""
    return f"{size / 2**20:.2f}"


def options(projector: projectors.Projector) -> list[str]:
    return ["--image-max-tokens", str(MAX_TOKENS)] if projector.dynamic else []


def pictures(projector: projectors.Projector, grid: Grid) -> list[bytes]:
    """One of exactly that size, or so many that a batch is full."""
    patch, count = projector.numbers.patch, 1
    if projector.kind.batches:
        count = max(
            images
            for images, _ in batches(projector.kind, projector.numbers, bound(projector) or 0)
            if images * projector.kind.tokens(projector.numbers, grid) <= projectors.BATCH_TOKENS
        )
    return [tiny_projectors.picture(grid[0] * patch, grid[1] * patch)] * count


@pytest.mark.parametrize(("kind", "grid"), shapes())
def test_an_image_takes_what_is_planned(engine: Engine, tmp_path: Path, kind: str, grid: Grid) -> None:
    projector = planned(kind)
    seen = pictures(projector, grid)
    with images.serving(engine, tmp_path, kind, *options(projector)) as server:
        server.ask(seen)
        told = server.buffers
    compute, _ = projectors.buffers(projector, grid, len(seen), gpu=False)
    assert told == {"CPU": mebibytes(compute)}
    largest = projector.memory(0, bound(projector), gpus=0)
    assert compute <= largest.compute


@pytest.mark.parametrize("kind", projectors.KNOWN, ids=lambda name: f"{name} on a GPU")
def test_the_host_holds_what_is_planned_beside_a_gpu(engine: Engine, tmp_path: Path, kind: str) -> None:
    projector = planned(kind)
    grid = widest(projector.kind, projector.numbers, bound(projector) or 0)[0]
    seen = pictures(projector, grid)
    with images.serving(engine, tmp_path, kind, *options(projector), gpu=True) as server:
        server.ask(seen)
        told = server.buffers
    compute, host = projectors.buffers(projector, grid, len(seen))
    assert told == {"GPU": mebibytes(compute), "CPU": mebibytes(host)}
    largest = replace(projector, sounds=False).memory(0, bound(projector))
    assert compute <= largest.compute <= HIGHEST * compute
    assert host <= largest.host <= HIGHEST * host


@pytest.mark.parametrize("gpu", [False, True], ids=["the host alone", "a GPU"])
def test_sounds_that_nobody_sends_take_their_buffer_too(engine: Engine, tmp_path: Path, gpu: bool) -> None:
    """The engine makes it at start, after that for images, and tells both."""
    projector = planned("gemma4uv")
    assert projector.sounds
    with images.serving(engine, tmp_path, "gemma4uv", "--warmup", gpu=gpu) as server:
        told = server.buffers
    both, one = (replace(projector, sounds=sounds).memory(0, gpus=int(gpu)) for sounds in (True, False))
    expected = {"CPU": mebibytes(both.host - one.host if gpu else both.compute - one.compute)}
    assert told == expected | ({"GPU": mebibytes(both.compute - one.compute)} if gpu else {})


@pytest.mark.parametrize(("kind", "low"), [("pixtral", 8), ("gemma4v", 70), ("qwen3vl_merger", 30)])
def test_no_picture_has_more_tokens_than_are_planned(
    engine: Engine, tmp_path: Path, kind: str, low: int
) -> None:
    """Long and narrow pictures exceed a low bound: the engine rounds their short side up to a token."""
    sizes = [(10, 1000), (20, 2000), (7, 700), (30, 1500), (50, 3000), (15, 1500), (1, 100)]
    with images.serving(engine, tmp_path, kind, "--image-max-tokens", str(low)) as server:
        without = server.ask([])["usage"]["prompt_tokens"]
        found = {
            (width, height): server.ask([tiny_projectors.picture(width, height)])["usage"]["prompt_tokens"]
            for width, height in [*sizes, *((height, width) for width, height in sizes)]
        }
    most = max(found.values()) - without
    assert low + 2 < most <= planned(kind).image_tokens(low)


@pytest.mark.parametrize(
    ("kind", "size"), [("qwen3vl_merger", (1440, 1440)), ("internvl", (1400, 1400)), ("gemma3", (8, 8))]
)
def test_a_requests_images_take_no_more_of_the_host(
    engine: Engine, tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    """The most that a request may carry, twice, so that what a first one leaves behind counts too."""
    projector = planned(kind)
    pictures = [tiny_projectors.picture(*size)] * MAX_IMAGES
    with images.serving(engine, tmp_path, kind, "--cache-ram", "0", gpu=True) as server:
        server.ask([])
        before = server.peak
        for _ in range(2):
            with contextlib.suppress(urllib.error.HTTPError):  # too long for the slot, which is seen late
                server.ask(pictures)
        taken = server.peak - before
    planned_bytes = projector.memory(0).host + projector.request_bytes() + host_bytes(1)
    assert projector.request_bytes() / 4 < taken <= planned_bytes
