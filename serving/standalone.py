"""Server settings for a file on one's own machine, where no plan was made."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from berth.engine import gguf, projectors
from berth.errors import InvalidGguf, UnknownProjector
from berth.plans import Projector, Server

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from berth.plans import Task

_LARGEST_CONTEXT = 4096
"""Tokens per slot unless more are asked for: memory is not planned here."""
_POOLING_RANK = 4
_BATCH, _UBATCH = 2048, 512


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
    projector: Path | None = None,
) -> Server:
    """Return settings for a GGUF file, and for its projector, by what their headers say of them.

    Raises:
        CannotServe: one is absent, no GGUF file, or no projector that is known.
    """
    metadata = _metadata(model)
    architecture = metadata.get("general.architecture", "")
    trained = metadata.get(f"{architecture}.context_length", _LARGEST_CONTEXT)
    pooling = metadata.get(f"{architecture}.pooling_type", 0)
    chats = projector is not None or "tokenizer.chat_template" in metadata
    guessed: Task = "chat" if chats else "completion"
    if pooling:
        guessed = "rerank" if pooling == _POOLING_RANK else "embedding"
    name = alias or model.stem
    images, at_once = (None, 0) if projector is None else _projector(projector)
    return Server(
        model=name,
        alias=name,
        quantization=str(metadata.get("general.file_type", "unknown")),
        task=task or guessed,
        context_size=context_size or min(int(trained), _LARGEST_CONTEXT),
        parallel=parallel,
        batch=max(_BATCH, at_once),
        ubatch=max(_UBATCH, at_once),
        mmproj=images,
        gpu_layers=gpu_layers,
        gpus=1,
        variant="cpu",
    )


def _projector(path: Path) -> tuple[Projector, int]:
    """Return a projector, and the tokens that the engine has to compute at once for it."""
    try:
        known = projectors.parse(_metadata(path))
    except (InvalidGguf, UnknownProjector) as problem:
        raise CannotServe(f"{path}: {problem}") from None
    found = Projector(
        file=str(path.absolute()),
        size=path.stat().st_size,
        image_tokens=known.image_tokens(),
        batch_tokens=projectors.BATCH_TOKENS,
    )
    return found, known.whole_image()


def _metadata(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            return gguf.read_header(stream, path.stat().st_size).metadata
    except OSError as problem:
        raise CannotServe(f"{path}: {problem.strerror}") from None
    except InvalidGguf as problem:
        raise CannotServe(f"{path} is no GGUF file that can be read: {problem}") from None


def free_port() -> int:
    """Return a port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
