"""ggml's tensor types and what a tensor of one takes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

TYPES: dict[str, tuple[int, int, int]] = {
    # name: (number in a GGUF file, elements per block, bytes per block)
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q8_1": (9, 32, 36),
    "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210), "Q8_K": (15, 256, 292), "IQ2_XXS": (16, 256, 66), "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98), "IQ1_S": (19, 256, 50), "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82), "IQ4_XS": (23, 256, 136), "I8": (24, 1, 1), "I16": (25, 1, 2),
    "I32": (26, 1, 4), "I64": (27, 1, 8), "F64": (28, 1, 8), "IQ1_M": (29, 256, 56),
    "BF16": (30, 1, 2), "TQ1_0": (34, 256, 54), "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17),
    "NVFP4": (40, 64, 36), "Q1_0": (41, 128, 18), "Q2_0": (42, 64, 18),
}  # fmt: skip

BY_NUMBER = {number: name for name, (number, _, _) in TYPES.items()}


def row_size(kind: str, elements: int) -> int:
    """Bytes of `elements` in a row of a type; the engine rounds nothing, so they must be whole blocks."""
    _, block, size = TYPES[kind]
    return elements // block * size


@lru_cache(maxsize=65_536)
def size_of(shape: tuple[int, ...], kind: str) -> int:
    """Bytes of a tensor's data, without padding."""
    _, block, size = TYPES[kind]
    return math.prod(shape) // block * size


class Tensor(NamedTuple):
    """One tensor of a model: its shape is in ggml's order, the length of a row first."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of the data, without padding."""
        return size_of(self.shape, self.type)


def allocated(tensors: Iterable[Tensor], alignment: int = 32) -> int:
    """Bytes that the engine sets aside for tensors in one buffer, each padded to the buffer's alignment."""
    return sum(-(-tensor.size // alignment) * alignment for tensor in tensors)
