"""What the command line makes of kubectl's answers, played by a program of that name."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from generator.kubectl import Kubectl, KubectlError, NotFound

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def says(folder: Path, script: str) -> None:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_context_and_kubeconfig_are_passed_on(programs: Path) -> None:
    says(programs, 'echo "$@"')
    words = Kubectl("production", "/home/me/config", timeout_s=3)("get", "nodes").split()
    assert words == [
        "--request-timeout=3s",
        "--context=production",
        "--kubeconfig=/home/me/config",
        "get",
        "nodes",
    ]


def test_standard_input_reaches_it_and_is_empty_otherwise(programs: Path) -> None:
    says(programs, "cat")
    assert Kubectl()("apply", stdin="text") == "text"
    assert Kubectl()("apply") == ""


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('Error from server (NotFound): workspaces.kaito.sh "a" not found', NotFound),
        ('error: the server doesn\'t have a resource type "nodeclaims"', NotFound),
        ("Error from server (Forbidden): no", KubectlError),
    ],
    ids=["no such object", "no such kind", "forbidden"],
)
def test_what_is_missing_is_told_from_what_failed(
    programs: Path, said: str, kind: type[KubectlError]
) -> None:
    says(programs, f"cat >&2 <<'END'\n{said}\nEND\nexit 1")
    with pytest.raises(KubectlError, match=r"server") as raised:
        Kubectl()("get", "x")
    assert type(raised.value) is kind


def test_lines_of_its_own_log_are_left_out(programs: Path) -> None:
    says(programs, "echo 'E1128 09:54:14.487928 1 memcache.go:265] noise' >&2; echo refused >&2; exit 1")
    with pytest.raises(KubectlError) as raised:
        Kubectl()("get", "x")
    assert str(raised.value) == "refused"


def test_its_own_error_mark_is_left_out(programs: Path) -> None:
    says(programs, """echo 'error: context "x" does not exist' >&2; exit 1""")
    with pytest.raises(KubectlError) as raised:
        Kubectl()("get", "x")
    assert str(raised.value) == 'context "x" does not exist'


def test_no_answer_in_time_is_told(programs: Path) -> None:
    says(programs, "exec sleep 30")
    with pytest.raises(KubectlError, match="no answer in time"):
        Kubectl(timeout_s=0)("get", "x", wait_s=0.2)


def test_an_answer_that_is_no_json_is_told(programs: Path) -> None:
    says(programs, "echo no json")
    with pytest.raises(KubectlError, match="wrote no JSON"):
        Kubectl().json("get", "x")
