"""The projector comes with the model, from the same repository, and is checked and stamped as that is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from serving import weights
from serving.weights import commands, stamps
from serving.weights.stamps import State
from tests.serving.weights.conftest import COMMIT, content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.weights.conftest import FakeHub

MODEL, PROJECTOR = "q4/m.gguf", "mmproj.gguf"


@pytest.fixture
def line(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of a model with a projector, as the charts write it but for the sha256."""
    hub.files |= {MODEL: content(300_000), PROJECTOR: content(70_000, 1)}
    monkeypatch.setenv(commands.ENDPOINT, hub.hub)
    return [
        "--repository", "org/models", "--revision", COMMIT, "--file", MODEL, "--sha256", hub.sha256(MODEL),
        "--mmproj", PROJECTOR, "--size", "370000", "--to", str(tmp_path / "models"),
    ]  # fmt: skip


@pytest.mark.parametrize("pinned", [True, False], ids=["with a sha256", "without one"])
def test_it_is_fetched_beside_the_model(hub: FakeHub, line: list[str], tmp_path: Path, pinned: bool) -> None:
    digest = ["--mmproj-sha256", hub.sha256(PROJECTOR)] if pinned else []
    assert commands.fetch([*line, *digest]) == 0
    folder = tmp_path / "models"
    assert {name: (folder / name).read_bytes() for name in hub.files} == hub.files
    states = [stamp and stamp.state for stamp in map(stamps.read, (folder / MODEL, folder / PROJECTOR))]
    assert states == [State.PINNED, State.PINNED if pinned else State.UNPINNED]


def test_another_projector_than_was_promised_is_never_served(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.fetch([*line, "--mmproj-sha256", "0" * 64]) == weights.EXIT_WRONG_HASH
    assert not (tmp_path / "models" / PROJECTOR).exists()
    assert PROJECTOR in capsys.readouterr().err


def test_a_projector_that_is_not_there_is_told_before_the_first_byte(
    hub: FakeHub, line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del hub.files[PROJECTOR]
    assert commands.fetch(line) != 0
    assert hub.gets == []
    assert PROJECTOR in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [None, MODEL, PROJECTOR], ids=["both right", "the model", "the projector"])
def test_both_files_of_a_volume_are_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str | None
) -> None:
    digests = {}
    for number, name in enumerate((MODEL, PROJECTOR)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GGUF" + bytes([number]) * 1000)
        digests[name] = "0" * 64 if name == wrong else hashlib.sha256(path.read_bytes()).hexdigest()
    arguments = [
        "--model", str(tmp_path / MODEL), "--sha256", digests[MODEL],
        "--mmproj", str(tmp_path / PROJECTOR), "--mmproj-sha256", digests[PROJECTOR],
    ]  # fmt: skip
    assert commands.verify(arguments) == (weights.EXIT_WRONG_HASH if wrong else 0)
    said = capsys.readouterr()
    if wrong is None:
        assert said.out.count("Pinned: ") == 2
        assert stamps.read(tmp_path / PROJECTOR) is not None
    else:
        assert f"{wrong.rpartition('/')[2]} is not what was promised" in said.err


@pytest.mark.parametrize(
    ("parse", "arguments"),
    [
        (commands.parse_fetch, ["--repository", "a/b", "--file", "m.gguf", "--size", "1", "--to", "/models"]),
        (commands.parse_verify, ["--model", "/models/m.gguf"]),
    ],
    ids=["fetch", "verify"],
)
def test_a_sha256_needs_its_file(
    parse: Callable[[list[str]], object], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse([*arguments, "--mmproj-sha256", "0" * 64])
    assert "--mmproj-sha256 needs --mmproj" in capsys.readouterr().err
