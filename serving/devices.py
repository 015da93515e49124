"""Whether an engine built for GPUs finds any; without one it would serve on the CPU, slowly and in silence.

A driver older than the build's CUDA, a pod without the runtime that brings GPUs in, a missing library: the
engine starts all the same, and only its speed would tell. So it is asked first which devices it sees.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ASK_SECONDS = 60.0
_NONE = "(none)"
_REASON = "failed to initialize CUDA:"


async def missing(argv: Sequence[str]) -> str | None:
    """Return what is wrong, or nothing: also for a build without CUDA, and for a plan without GPUs."""
    if _value(argv, "--n-gpu-layers") == "0":
        return None
    program = shutil.which(argv[0])
    if program is None:
        return None
    folder = Path(program).resolve().parent
    if not (folder.parent / "lib" / "libggml-cuda.so").exists():
        return None
    asking = await asyncio.create_subprocess_exec(
        folder / "llama-server", "--list-devices",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            told, _ = await asking.communicate()
    except TimeoutError:
        asking.kill()
        await asking.wait()
        return f"the engine did not tell its GPUs within {_ASK_SECONDS:g} seconds"
    text = told.decode(errors="replace")
    if _NONE not in text:
        return None
    found = next((line.split(_REASON, 1)[1].strip() for line in text.splitlines() if _REASON in line), "")
    why = found or "the driver, its libraries or the device are not in this container"
    return f"it is built for GPUs and finds none: {why}"


def _value(argv: Sequence[str], flag: str) -> str | None:
    return argv[argv.index(flag) + 1] if flag in argv[:-1] else None
