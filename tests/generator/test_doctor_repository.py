"""`berth doctor` on repositories: what is stale, edited or missing is named with its fix."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from berth import fleet as fleets
from generator import cli
from generator.doctor import repository
from generator.doctor.findings import Finding, State

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """The example fleet with its platform, as somebody committed them."""
    shutil.copytree(ROOT / "examples" / "fleet", tmp_path / "fleet")
    (tmp_path / "fleet" / "berth.schema.json").write_text(json.dumps(fleets.json_schema()))
    install(tmp_path / "fleet")
    return tmp_path / "fleet"


def install(fleet: Path, *more: str) -> None:
    arguments = ["install", "--out", str(fleet / "platform"), "--fleet", str(fleet / "berth.yaml"), *more]
    assert cli.run(arguments) == 0


def complaints(fleet: Path) -> list[Finding]:
    return [one for one in repository.judge(fleet) if one.state is not State.fine]


def change(place: Path, old: str, new: str) -> None:
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))


def test_the_example_fleet_is_well(fleet: Path) -> None:
    assert complaints(fleet) == []
    areas = {one.what.partition(" in ")[0] for one in repository.judge(fleet)}
    assert areas == {"fleet file", "schema for editors", "Workspaces", "rendered manifests", "platform"}


def test_options_of_the_platform_are_remembered(fleet: Path) -> None:
    install(fleet, "--certificates", "cert-manager", "--watcher-dry-run")
    assert complaints(fleet) == []
    change(fleet / "berth.yaml", "azure", "aws")
    (found,) = (one for one in complaints(fleet) if one.what.startswith("platform"))
    assert "--certificates=cert-manager --watcher-dry-run" in found.fix


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a spec that changed after the render": (
        lambda fleet: change(fleet / "workspaces" / "assistant.yaml", "name: assistant", "name: helper"),
        "not what the specs make",
        "berth render",
    ),
    "a rendered file that was edited": (
        lambda fleet: change(
            fleet / "rendered/chat_assistant/service-assistant.yaml", "port: 80", "port: 81"
        ),
        "edited by hand: chat_assistant/service-assistant.yaml",
        "berth verify",
    ),
    "another version's render": (
        lambda fleet: change(fleet / "rendered/.berth-rendered.json", '"berth": "', '"berth": "0.0.9-'),
        "wrote them, and this is",
        "git diff",
    ),
    "a record that can't be read": (
        lambda fleet: (fleet / "rendered/.berth-rendered.json").write_text("{"),
        "no record of berth's",
        "berth render",
    ),
    "nothing rendered": (
        lambda fleet: shutil.rmtree(fleet / "rendered"),
        "holds any",
        "berth render",
    ),
    "a wrong fleet file": (
        lambda fleet: (fleet / "berth.yaml").write_text("cloud: moon\n"),
        "cloud",
        "berth check",
    ),
    "no fleet file": (lambda fleet: (fleet / "berth.yaml").unlink(), "there is none", "berth init"),
    "another version's schema": (
        lambda fleet: (fleet / "berth.schema.json").write_text("{}"),
        "another version's",
        "berth init",
    ),
    "a platform that was edited": (
        lambda fleet: change(
            fleet / "platform/watcher/deployment-berth-watcher.yaml", "replicas: 2", "replicas: 1"
        ),
        "not what `berth install` makes",
        "berth install",
    ),
    "a wrong Workspace": (
        lambda fleet: change(fleet / "workspaces/assistant.yaml", "inference:", "inferense:"),
        "1 has problems: assistant",
        "berth check",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_named_with_the_command_that_mends_it(case: str, fleet: Path) -> None:
    spoil, why, fix = CASES[case]
    spoil(fleet)
    found = complaints(fleet)
    assert any(why in one.why and fix in one.fix for one in found), found


def test_a_workspace_that_stands_twice_is_named_with_both_places(fleet: Path) -> None:
    first = sorted((fleet / "workspaces").glob("*.yaml"))[0]
    shutil.copy(first, first.with_name("zzz.yaml"))
    (told,) = [one for one in complaints(fleet) if one.what == "Workspaces"]
    assert told.state is State.warning
    assert f"already stands in {first}" in told.why
    assert "remove one" in told.fix


def test_what_the_doctor_advises_for_a_stale_render_works(fleet: Path) -> None:
    change(fleet / "workspaces" / "assistant.yaml", "name: assistant", "name: helper")
    (found,) = complaints(fleet)
    command = found.fix.split("`")[1].split()
    assert command[0] == "berth"
    assert cli.run(command[1:]) == 0
    assert complaints(fleet) == []


def test_exit_codes_and_json(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(["doctor", str(fleet), "--no-cluster", "--format", "json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["healthy"]
    assert set(told["findings"][0]) == {"area", "what", "state", "why", "fix"}
    change(fleet / "rendered/chat_assistant/service-assistant.yaml", "port: 80", "port: 81")
    assert cli.run(["doctor", str(fleet), "--no-cluster"]) == 1
    out = capsys.readouterr()
    assert "edited by hand" in out.out
    assert "1 error" in out.err
    assert cli.run(["doctor", str(fleet / "missing"), "--no-cluster"]) == 2


@pytest.mark.parametrize(
    ("kubectl", "said"),
    [(None, "kubectl is not installed"), ("echo 'refused: no route' >&2; exit 1", "refused: no route")],
    ids=["no kubectl", "no cluster"],
)
def test_a_cluster_that_is_away_is_two_if_asked_for_and_unknown_if_not(
    kubectl: str | None,
    said: str,
    fleet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    if kubectl is not None:
        program = programs / "kubectl"
        program.write_text(f"#!/bin/sh\n{kubectl}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs))
    capsys.readouterr()
    assert cli.run(["doctor", str(fleet), "--cluster"]) == 2
    assert said in capsys.readouterr().err
    assert cli.run(["doctor", str(fleet), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (found,) = (one for one in told["findings"] if one["state"] == "unknown")
    assert said in found["why"]
