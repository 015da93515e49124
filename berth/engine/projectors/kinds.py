"""The graphs of each type of projector, as the engine builds them for an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graph import F32, Node

if TYPE_CHECKING:
    from berth.engine.projectors.encoder import Encoder


def gemma3(build: Encoder) -> Node:
    """Gemma 3: SigLIP, pooled to a fixed number of tokens."""
    numbers = build.numbers
    positions = build.weight(numbers.width, build.patches, kind=F32)
    value = build.transformer(build.embedded(), build.patches, "norm", learned=positions)
    value = build.norm(build.pooled(value, numbers.merge), "rms_norm")
    matrix = build.weight(numbers.text, numbers.width)
    return g.mul_mat(g.cont(g.transpose(matrix)), value)
