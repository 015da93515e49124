"""The full circle on one machine, without a cluster or a GPU: `make demo`.

A git repository with two Workspaces becomes plans, manifests and commits; the admission webhook refuses what
cannot fit; the node-watcher decides which node to ask for; the rendered pod's own command answers a question
with a real model. Every step shows the command that a person would type. At a terminal everything stays up
until Ctrl-C; without one it ends by itself.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tools import demo_admission, demo_answer, demo_engine, demo_fleet, demo_nodes
from tools.demo_steps import ROOT, StepFailed, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

FOLDER = ROOT / "demo-output"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return 0 if every step ended as it should."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the repository; made anew")
    folder = parser.parse_args(arguments).folder.absolute()
    console = Console(highlight=False)
    watched = sys.stdin.isatty() and sys.stdout.isatty()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    try:
        _circle(console, folder, watched)
    except StepFailed as problem:
        console.print(f"[red]this step failed:[/] {problem}")
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; nothing is left running")
        return 130
    return 0


def _circle(console: Console, folder: Path, watched: bool) -> None:
    started = time.monotonic()
    steps = Steps(console, folder)
    if not demo_engine.is_there():
        steps.say("The last step needs llama.cpp, which is built once; everything else comes first.")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="berth-demo-")))
        demo_fleet.run(steps)
        stack.enter_context(demo_admission.running(steps, scratch / "admission"))
        demo_nodes.run(steps)
        answered = None
        if not demo_engine.is_there():
            steps.title("The engine")
        if (reason := demo_engine.provide(console, watched)) is not None:
            steps.say(f"left out: {reason}")
        else:
            answered = stack.enter_context(demo_answer.running(steps, scratch))
        console.print(f"\n[bold green]Done in {time.monotonic() - started:.0f} s.[/]")
        _next(steps, answered[0] if answered and watched else None)
        if answered:
            steps.say(f"answer: {answered[1]}")
        if watched and answered:
            console.print("\n[bold]It stays up until Ctrl-C.[/]")
            with suppress(KeyboardInterrupt):
                signal.pause()
            steps.say("\nstopping")
    if watched and answered:
        steps.say("stopped; nothing is left running")


def _next(steps: Steps, address: str | None) -> None:
    shown = os.path.relpath(steps.folder)
    steps.say(f"The repository that was made is {shown}/; the next demo makes it anew. Read it:")
    steps.say(f"  less {shown}/rendered/small/deployment-small.yaml")
    steps.say("Yours:")
    steps.say("  .venv/bin/berth init fleet && .venv/bin/berth check fleet")
    steps.say("  .venv/bin/berth size MODEL.gguf     # or any name of: .venv/bin/berth presets")
    if address:
        steps.say("Ask the model:")
        steps.say(f"  {address}/ui     # in a browser")
        steps.say(f"""  curl -X POST {address}/chat -d '{{"prompt": "Why is the sky blue?"}}'""")
        messages = '{"messages": [{"role": "user", "content": "Hello"}]}'
        steps.say(f"  curl {address}/v1/chat/completions -d '{messages}'")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
