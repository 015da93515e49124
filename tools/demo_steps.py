"""How the demo tells what it does: a numbered title, the command that a person would type, its own output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


class StepFailed(Exception):
    """A step did not end as it should; the text says how."""


class Steps:
    """Numbered steps on one console; commands run in one folder."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.folder = folder
        self._number = 0

    def title(self, text: str) -> None:
        """Begin a step."""
        self._number += 1
        self.console.print(f"\n[bold cyan]{self._number}. {text}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        """Tell something of our own, in no markup."""
        self.console.print(text, markup=False, soft_wrap=True)

    def command(self, text: str) -> None:
        """Show a command that a person would type."""
        self.console.print(f"$ {text}", style="dim", markup=False, soft_wrap=True)

    def run(self, command: Sequence[str], expected: int = 0) -> None:
        """Show a command, run exactly that, and check its exit code."""
        self.command(" ".join(part if " " not in part else f"'{part}'" for part in command))
        found = BIN / command[0]
        program = str(found) if found.exists() else command[0]
        code = subprocess.run(
            [program, *command[1:]], cwd=self.folder, env=environment(), check=False
        ).returncode
        if code != expected:
            raise StepFailed(f"`{command[0]}` ended with exit code {code}, and {expected} was expected")


def environment() -> dict[str, str]:
    """Return ours with colour where we have it, and with an author for the demo's own commits."""
    author = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "demo"), ("EMAIL", "demo@example.com"))
    }
    own = {
        "PYTHONUNBUFFERED": "1",
        "GIT_PAGER": "cat",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **author,
    }
    terminal = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
    return {**os.environ, **own, **terminal}
