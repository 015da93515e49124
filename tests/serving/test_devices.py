"""An engine for GPUs that finds none ends honestly; one for CPUs, or for no layers, is left alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from serving import devices
from serving.engine import Command, Engine, EngineFailed
from serving.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

OLD_DRIVER = "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for its runtime"
NOTHING = "Available devices:\n  (none)"
ONE = "Available devices:\n  CUDA0: Tesla T4 (14930 MiB, 14826 MiB free)"


def engine(folder: Path, told: str, *, cuda: bool = True) -> str:
    """Return the path of a program that tells its devices as the engine does."""
    for part in ("bin", "lib"):
        (folder / part).mkdir()
    if cuda:
        (folder / "lib" / "libggml-cuda.so").touch()
    program = folder / "bin" / "llama-server"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{told}\nEND\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        pytest.param(
            f"{OLD_DRIVER}\n{NOTHING}", "driver version is insufficient", id="the driver is too old"
        ),
        pytest.param(NOTHING, "not in this container", id="there is no driver at all"),
    ],
)
def test_no_gpu_is_told(tmp_path: Path, told: str, reason: str) -> None:
    problem = asyncio.run(devices.missing([engine(tmp_path, told), "--n-gpu-layers", "33"]))
    assert problem is not None
    assert "finds none" in problem
    assert reason in problem


@pytest.mark.parametrize(
    ("told", "cuda", "layers"),
    [
        pytest.param(ONE, True, "33", id="there is a GPU"),
        pytest.param(NOTHING, True, "0", id="no layer is for a GPU"),
        pytest.param(NOTHING, False, "33", id="the build is for CPUs"),
    ],
)
def test_all_is_well(tmp_path: Path, told: str, cuda: bool, layers: str) -> None:
    argv = [engine(tmp_path, told, cuda=cuda), "--n-gpu-layers", layers]
    assert asyncio.run(devices.missing(argv)) is None


def test_a_worker_is_asked_as_well(tmp_path: Path) -> None:
    program = engine(tmp_path, NOTHING).replace("llama-server", "ggml-rpc-server")
    (tmp_path / "bin" / "ggml-rpc-server").symlink_to(tmp_path / "bin" / "llama-server")
    assert asyncio.run(devices.missing([program, "--port", "50052"])) is not None


def test_the_front_gives_up_with_the_reason(tmp_path: Path) -> None:
    command = Command((engine(tmp_path, f"{OLD_DRIVER}\n{NOTHING}"), "--n-gpu-layers", "33"))
    running = Engine(command, Upstream("127.0.0.1", 1), backoff_seconds=0.01)
    with pytest.raises(EngineFailed, match="finds none: CUDA driver version"):
        asyncio.run(running.run())
