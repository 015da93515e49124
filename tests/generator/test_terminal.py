"""What people see in terminals of any width."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from generator import cli, render, terminal
from tests.repositories import git

if TYPE_CHECKING:
    from pathlib import Path

SPEC = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: one}
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector:
    matchLabels: {apps: one}
inference:
  preset: {name: falcon-7b}
"""
HEAD = ("Workspace", "Nodes", "Notes")
ROWS = [
    ("chat/assistant", "1 × Standard_NC24ads_A100_v4", "a few more words [red]than[/red] needed"),
    ("x", "", ""),
]


@pytest.mark.parametrize("columns", [20, 40, 60, 61, 80, 100, 160], ids="at {} columns".format)
def test_a_table_tears_no_word_and_loses_none(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal.table(HEAD, ROWS, whole=("Workspace",))
    shown = capsys.readouterr().out
    words = shown.split()
    for word in " ".join(ROWS[0]).split():
        assert word in words
    if columns >= 61:
        assert max(map(len, shown.splitlines())) <= columns
        assert shown.startswith("Workspace")


@pytest.mark.parametrize("command", ["presets", "skus"])
def test_a_catalogue_tears_no_name_in_a_narrow_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run([command])
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:] if line[0] != " "}
    monkeypatch.setenv("COLUMNS", "50")
    cli.run([command])
    assert names <= set(capsys.readouterr().out.split())


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "one.yaml").write_text(SPEC)
    (tmp_path / "gone.yaml").write_text(SPEC.replace("one", "gone"))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "gone.yaml").unlink()
    (tmp_path / "one.yaml").write_text(SPEC.replace("NC24ads_A100_v4", "NC48ads_A100_v4"))
    (tmp_path / "new.yaml").write_text(SPEC.replace("one", "new"))
    return tmp_path


@pytest.mark.parametrize("columns", ["40", "160"])
def test_a_change_is_shown_line_by_line_and_only_what_differs(
    changed: Path, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.run(["plan", str(changed), "--since", "HEAD"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("one")
    assert lines[at + 1] == "  Nodes     1 × Standard_NC24ads_A100_v4 → 1 × Standard_NC48ads_A100_v4"
    assert lines[at + 2].startswith("  Per hour  3.67 USD → ")
    assert not any(line.startswith("  Slots") for line in lines[at:])
    assert "  Model        falcon-7b Q4_K_M" in lines[lines.index("new (new)") :]
    assert "gone (removed)" in lines


def test_the_markdown_of_a_change_breaks_no_row(
    changed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    cli.run(["plan", str(changed), "--since", "HEAD", "--format", "markdown"])
    rows = [line for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert len(rows) == len(["head", "rule", "one", "new", "gone"])
    assert {row.count("|") for row in rows} == {8}


def test_findings_keep_their_words_in_a_narrow_terminal(
    changed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    cli.run(["doctor", str(changed), "--no-cluster"])
    shown: Any = capsys.readouterr().out
    assert f"    → run `berth init {changed}`, or write berth.yaml at its root\n" in shown


@pytest.mark.parametrize("watched", [True, False], ids=["at a terminal", "in a pipe"])
def test_a_long_render_says_that_it_works_where_somebody_watches(
    watched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(render, "MANY", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched)
    (tmp_path / "one.yaml").write_text(SPEC)
    assert cli.run(["render", str(tmp_path / "one.yaml"), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].endswith("1 rendered, 0 unchanged")
    assert ("rendering 1 Workspaces …" in lines) is watched


@pytest.mark.parametrize("out", ["-", "out"], ids=["to a stream", "to a folder"])
def test_a_quiet_render_leaves_out_the_warnings(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "one.yaml").write_text(SPEC.replace("Standard_NC24ads_A100_v4", "Standard_NC12s_v3"))
    assert cli.run(["render", "one.yaml", "--out", "-"]) == 0
    assert ": warning: " in capsys.readouterr().err
    assert cli.run(["render", "one.yaml", "--out", out, "--quiet"]) == 0
    assert ": warning: " not in capsys.readouterr().err
