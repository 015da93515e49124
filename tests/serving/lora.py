"""LoRA adapters of a real model that the real engine takes: made here, with random or with empty tensors."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

from berth.engine import gguf
from berth.engine.tensors import Tensor
from tools import sparse_gguf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


EMBEDDING = "token_embd.weight"


def tensors(model: Path, rank: int, adapted: Callable[[str], bool]) -> list[Tensor]:
    """Both matrices for each of a model's matrices that is adapted."""
    found = []
    for tensor in header(model).tensors:
        if len(tensor.shape) > 1 and adapted(tensor.name):
            width, height, *experts = tensor.shape
            if tensor.name == EMBEDDING:
                # looked up and not multiplied with, so that the first of both is the long one
                found += [
                    Tensor(f"{tensor.name}.lora_a", (rank, height), "F32"),
                    Tensor(f"{tensor.name}.lora_b", (rank, width), "F32"),
                ]
                continue
            found += [
                Tensor(f"{tensor.name}.lora_a", (width, rank, *experts), "F32"),
                Tensor(f"{tensor.name}.lora_b", (rank, height, *experts), "F32"),
            ]
    return found


def write(path: Path, model: Path, made: Iterable[Tensor], spread: float = 0.0) -> Path:
    """Write an adapter; without a spread its tensors are zero, and it changes nothing."""
    made = list(made)
    metadata = {
        "general.type": "adapter",
        "general.architecture": header(model).metadata["general.architecture"],
        "general.name": path.stem,
        "adapter.type": "lora",
        "adapter.lora.alpha": 16.0,
    }
    size = sparse_gguf.write(path, metadata, made)
    if spread:
        chance = random.Random(11)
        with path.open("r+b") as stream:
            stream.seek(size - sum(tensor.size for tensor in made))  # each is a multiple of the alignment
            for tensor in made:
                values = [chance.uniform(-spread, spread) for _ in range(tensor.elements)]
                stream.write(struct.pack(f"<{len(values)}f", *values))
    return path


def header(file: Path) -> gguf.Header:
    with file.open("rb") as stream:
        return gguf.read_header(stream, file.stat().st_size)
