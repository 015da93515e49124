"""The front's command line: what a pod's plan adds to it, and what it refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from berth import plans
from serving import settings
from serving.weights.extras import Kind
from tests.serving import tiny_projectors
from tests.serving.test_sources import IMAGE, OTHER, written
from tools import sparse_gguf

MODEL, PROJECTOR, ADAPTER = "/models/gemma/m.gguf", "/models/gemma/mm.gguf", "/adapters/sql/a.gguf"


def line(*own: str, model: str = MODEL, loads: str | None = PROJECTOR) -> list[str]:
    """A front's command line, with any program of this machine as its engine."""
    engine = plans.Server(
        model="m", alias="m", quantization="Q8_0", context_size=1, parallel=1, gpu_layers=1, gpus=1
    ).argv(model)
    engine[0] = "true"
    return ["--model", model, *own, "--", *engine, *(["--mmproj", loads] if loads else [])]


@pytest.fixture
def plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(written()))
    return str(path)


def test_what_a_pinned_image_holds_is_known_as_the_plan_knows_it(plan: str) -> None:
    found = settings.read(line("--plan", plan, "--mmproj", f"{PROJECTOR}:1", "--adapter", f"{ADAPTER}:1"))
    assert found.image == IMAGE
    assert {extra.kind: extra.image for extra in found.extras} == {
        Kind.ADAPTER: OTHER,
        Kind.PROJECTOR: IMAGE,
    }


def test_a_plan_says_nothing_of_files_elsewhere(plan: str) -> None:
    adapter = "/home/me/a.gguf"
    found = settings.read(
        line("--plan", plan, "--adapter", f"{adapter}:1", model="/home/me/m.gguf", loads=None)
    )
    assert found.image is None
    assert [extra.image for extra in found.extras] == [None]


def test_a_projector_that_only_the_engine_is_told_of_is_looked_at() -> None:
    found = settings.read(line())
    assert [(extra.kind, extra.path, extra.size) for extra in found.extras] == [
        (Kind.PROJECTOR, Path(PROJECTOR), None)
    ]
    assert found.takes_images
    assert not settings.read(line(loads=None)).takes_images


@pytest.mark.parametrize("loads", [None, "/models/other.gguf"], ids=["none", "another"])
def test_front_and_engine_must_have_the_same_projector(
    loads: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings.read(line("--mmproj", f"{PROJECTOR}:1", loads=loads))
    assert f"names {loads or 'none'}, not {PROJECTOR}" in capsys.readouterr().err


@pytest.mark.parametrize(("mebibytes", "held"), [("1", 256), ("512", 512)])
def test_one_request_may_be_as_large_as_is_said(mebibytes: str, held: int) -> None:
    bounds = settings.read(line("--max-body", mebibytes)).bounds
    assert (bounds.body_bytes, bounds.held_bytes) == (int(mebibytes) * 2**20, held * 2**20)


def test_on_ones_own_machine_a_projectors_needs_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "_program", lambda name: name)
    text = tiny_projectors.write_text(tmp_path / "text.gguf")
    large = tiny_projectors.metadata("gemma3") | {"clip.vision.image_size": 896 * 2}
    projector = tmp_path / "mmproj.gguf"
    sparse_gguf.write(projector, large, [])
    monkeypatch.chdir(tmp_path)
    argv = settings.read(["--model", str(text), "--mmproj", "mmproj.gguf"]).command.argv
    values = dict(pairwise(argv))
    assert values["--mmproj"] == str(projector)
    assert int(values["--ubatch-size"]) == int(values["--batch-size"]) // 2 == 1024
    assert "--jinja" in argv


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"clip.projector_type": "dreamed"}, "dreamed", id="of an unknown type"),
        pytest.param({"clip.has_audio_encoder": True}, "sounds", id="for sounds"),
    ],
)
def test_a_projector_that_nobody_knows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], reason: str
) -> None:
    text = tiny_projectors.write_text(tmp_path / "text.gguf")
    projector = tmp_path / "mmproj.gguf"
    sparse_gguf.write(projector, tiny_projectors.metadata("gemma3") | change, [])
    with pytest.raises(SystemExit):
        settings.read(["--model", str(text), "--mmproj", str(projector)])
    assert reason in capsys.readouterr().err
