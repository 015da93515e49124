"""The main job on real files: `make demo`.

Every step shows the command that a person would type, runs exactly that, and checks its outcome.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tools import demo_admission, demo_answer

ROOT = Path(__file__).resolve().parent.parent
BERTH = Path(sys.executable).with_name("berth")
OUT = ROOT / "demo-output"

TOO_SMALL = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: big-model-small-gpu
resource:
  instancetype: Standard_NC6s_v3
  labelSelector:
    matchLabels: {apps: llama}
inference:
  preset:
    name: llama-2-70b-chatt
---
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: does-not-fit
resource:
  instanceType: Standard_NC6s_v3
  labelSelector:
    matchLabels: {apps: llama}
inference:
  preset:
    name: llama-2-70b-chat
"""


def main() -> int:
    """Run the demo and return 0 if every step ended as it should."""
    console = Console(highlight=False)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="berth-demo-") as folder:
        broken = Path(folder) / "broken.yaml"
        broken.write_text(TOO_SMALL)
        steps: list[tuple[str, list[str], int]] = [
            ("Every problem is found in one run, with the fix", ["check", str(broken)], 1),
            ("KAITO's own Workspaces are fine as they are", ["check", "examples/kaito", "--quiet"], 0),
            ("What each of them needs, and why not less", ["plan", "examples/kaito"], 0),
            ("One of them in detail", ["plan", "examples/kaito/llama-2-13b-chat.yaml", "--explain"], 0),
            ("The memory of one model, itemised for each GPU", _SIZE, 0),
            ("Manifests to review and commit", ["render", "examples/kaito", "--out", str(OUT)], 0),
            ("A second render finds nothing to do", ["render", "examples/kaito", "--out", str(OUT)], 0),
            ("Nobody has edited them by hand", ["verify", str(OUT)], 0),
        ]
        for number, (title, arguments, expected) in enumerate(steps, 1):
            console.print(f"\n[bold cyan]{number}. {title}[/]")
            console.print(
                f"[dim]$ berth {' '.join(_short(argument) for argument in arguments)}[/]", soft_wrap=True
            )
            code = subprocess.run([BERTH, *arguments], cwd=ROOT, env=_environment(), check=False).returncode
            if code != expected:
                console.print(f"[red]this step ended with exit code {code}, and {expected} was expected[/]")
                return 1
        last = len(steps)
        console.print(f"\n[bold cyan]{last + 1}. The cluster's own gate says the same, over TLS[/]")
        if not demo_admission.run(console, Path(folder)):
            console.print("[red]the webhook did not answer as it should[/]")
            return 1
        console.print(f"\n[bold cyan]{last + 2}. The rendered pod's command answers with a real model[/]")
        answer = None
        if (reason := demo_answer.missing()) is not None:
            console.print(f"left out: {reason}", markup=False)
        else:
            spec = Path(folder) / "small.yaml"
            spec.write_text(demo_answer.WORKSPACE)
            render = [str(BERTH), "render", str(spec), "--out", str(Path(folder) / "rendered")]
            console.print(f"[dim]$ berth {' '.join(map(_short, render[1:]))}[/]", soft_wrap=True)
            subprocess.run(render, cwd=ROOT, env=_environment(), check=True)
            answer = demo_answer.run(console, Path(folder) / "rendered")
    shown = OUT / "workspace-falcon-7b" / "deployment-workspace-falcon-7b.yaml"
    console.print(f"\n[bold green]Done in {time.monotonic() - started:.0f} s.[/] Manifests:")
    for path in sorted(OUT.rglob("*"))[:12]:
        console.print(
            f"  {path.relative_to(ROOT)}{'/' if path.is_dir() else ''}", markup=False, soft_wrap=True
        )
    if shown.exists():
        console.print(f"\nRead one:  less {shown.relative_to(ROOT)}", markup=False, soft_wrap=True)
    console.print(
        "Try yours:  .venv/bin/berth check PATH, and: .venv/bin/berth --help", markup=False, soft_wrap=True
    )
    if answer is not None:
        console.print(f"answer: {' '.join(answer.split())}", markup=False, soft_wrap=True)
    return 0


_SIZE = [
    "size",
    "llama-3.1-8b-instruct",
    "--context",
    "32768",
    "--parallel",
    "4",
    "--gpus",
    "2",
    "--gpu",
    "A10",
]


def _short(argument: str) -> str:
    return argument.replace(f"{ROOT}/", "").replace(tempfile.gettempdir(), "/tmp")


def _environment() -> dict[str, str]:
    terminal = {"FORCE_COLOR": "1"} if sys.stdout.isatty() else {}
    return {**os.environ, "PYTHONUNBUFFERED": "1", **terminal}


if __name__ == "__main__":
    sys.exit(main())
