"""Server settings for a file on one's own machine, where no plan was made."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from berth.engine import gguf
from berth.errors import InvalidGguf
from berth.plans import Server

if TYPE_CHECKING:
    from pathlib import Path

    from berth.plans import Task

_LARGEST_CONTEXT = 4096
"""Tokens per slot unless more are asked for: memory is not planned here."""
_POOLING_RANK = 4


class CannotServe(Exception):
    """The file can't be served; the text says why."""


def server(
    model: Path,
    *,
    parallel: int,
    context_size: int | None = None,
    alias: str | None = None,
    task: Task | None = None,
    gpu_layers: int = 0,
) -> Server:
    """Return settings for a GGUF file, by what its header says of it.

    Raises:
        CannotServe: it is absent or no GGUF file.
    """
    try:
        with model.open("rb") as stream:
            metadata = gguf.read_header(stream, model.stat().st_size).metadata
    except OSError as problem:
        raise CannotServe(f"{model}: {problem.strerror}") from None
    except InvalidGguf as problem:
        raise CannotServe(f"{model} is no GGUF file that can be read: {problem}") from None
    architecture = metadata.get("general.architecture", "")
    trained = metadata.get(f"{architecture}.context_length", _LARGEST_CONTEXT)
    pooling = metadata.get(f"{architecture}.pooling_type", 0)
    guessed: Task = "chat" if "tokenizer.chat_template" in metadata else "completion"
    if pooling:
        guessed = "rerank" if pooling == _POOLING_RANK else "embedding"
    name = alias or model.stem
    return Server(
        model=name,
        alias=name,
        quantization=str(metadata.get("general.file_type", "unknown")),
        task=task or guessed,
        context_size=context_size or min(int(trained), _LARGEST_CONTEXT),
        parallel=parallel,
        gpu_layers=gpu_layers,
        gpus=1,
        variant="cpu",
    )


def free_port() -> int:
    """Return a port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
