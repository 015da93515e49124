"""Looking things up where a fleet file has entries of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from generator import cli
from tests.repositories import git

if TYPE_CHECKING:
    from pathlib import Path

FLEET = """\
provisioning: none
instanceTypes:
  - {name: rack-a, gpuModel: NVIDIA L40S, gpuCount: 4, vcpus: 64, memory: 512Gi}
models:
  - name: my-llama
    task: chat
    license: apache-2.0
    metadata:
      general.architecture: llama
      llama.block_count: 32
      llama.context_length: 8192
      llama.embedding_length: 4096
      llama.feed_forward_length: 14336
      llama.attention.head_count: 32
      llama.attention.head_count_kv: 8
    vocabulary: 128256
    quantizations: [Q8_0]
    defaultQuantization: Q8_0
"""


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder within a repository that has a fleet file."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "berth.yaml").write_text(FLEET)
    (tmp_path / "workspaces").mkdir()
    monkeypatch.chdir(tmp_path / "workspaces")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["explain", "rack-a"], "GPUs               4 × NVIDIA L40S", id="an instance type"),
        pytest.param(
            ["explain", "my-llama"], "rack-a: 1 of 4 × NVIDIA L40S", id="a model, and what it fits on"
        ),
        pytest.param(["skus", "rack"], "rack-a", id="the list of instance types"),
        pytest.param(["presets", "my-"], "my-llama", id="the list of models"),
        pytest.param(["size", "my-llama"], "my-llama Q8_0: 8192 tokens", id="a model's size"),
    ],
)
def test_entries_of_ones_own_are_found_below_their_fleet_file(
    below: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 0
    out = capsys.readouterr().out
    assert words in out
    assert "None" not in out


def test_a_fleet_file_elsewhere_can_be_named(
    below: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    assert cli.run(["explain", "rack-a"]) == 2
    assert "no instance type is named 'rack-a'" in capsys.readouterr().err
    assert cli.run(["explain", "rack-a", "--fleet", str(below / "berth.yaml"), "--format", "json"]) == 0
    told: Any = json.loads(capsys.readouterr().out)
    assert (told["gpuCount"], told["cloud"]) == (4, "custom")


def test_a_wrong_fleet_file_keeps_nobody_from_looking_something_up(
    below: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (below / "berth.yaml").write_text("cloud: moon\n")
    assert cli.run(["explain", "falcon-7b"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("falcon-7b: ")
    assert f"`berth check {below} --fleet {below / 'berth.yaml'}` names them" in said.err
