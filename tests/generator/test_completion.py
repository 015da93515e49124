"""What the shell's completion offers, asked as bash and zsh ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def offered(line: str, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    how = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    done = subprocess.run(
        [sys.executable, "-c", "from generator import cli; cli.run([])"],
        capture_output=True, text=True, check=False,
        env={**os.environ, **how, "_BERTH_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("berth pl", ["plan"], id="a command"),
        pytest.param("berth check --f", ["--format", "--fleet"], id="an option"),
        pytest.param("berth check --format ", ["text", "json", "github"], id="a format"),
        pytest.param("berth size falcon-7", ["falcon-7b", "falcon-7b-instruct"], id="a preset"),
        pytest.param("berth explain Standard_NC12s_v3", ["Standard_NC12s_v3"], id="an instance type"),
        pytest.param("berth size falcon-7b -q Q4", ["Q4_K_M"], id="a quantization of the named preset"),
        pytest.param("berth size ./model", [], id="a file, which the shell completes itself"),
        pytest.param("berth size unknown -q ", [], id="no quantization of a preset that nobody knows"),
    ],
)
def test_bash_is_offered(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_zsh_is_offered_the_same_names() -> None:
    assert '"falcon-7b"' in " ".join(offered("berth explain falcon-7", "zsh"))
