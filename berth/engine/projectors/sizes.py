"""The images that a projector computes at most: in patches, in tokens, and how many of them at once.

The engine scales a picture to whole tokens within a bound, but never below one token a side, and what is too
small up to more than a least: so a long and narrow one becomes more than a low bound. How much more follows
from the longest that a server takes (`berth.images.MAX_RATIO`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import TYPE_CHECKING

from berth.images import MAX_RATIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.engine.graph import Node
    from berth.engine.projectors.encoder import Encoder
    from berth.engine.projectors.numbers import Numbers

BATCH_TOKENS = 1024
"""Tokens of images of one size that are computed at once, beyond a first one (`--mtmd-batch-max-tokens`)."""

Grid = tuple[int, int]
"""Patches across and down."""


def _merged(numbers: Numbers, grid: Grid) -> int:
    return (grid[0] // numbers.merge) * (grid[1] // numbers.merge)


def _one(numbers: Numbers) -> int:
    return 1


def _never(numbers: Numbers) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of projector."""

    build: Callable[[Encoder], Node]
    merge: int = 1
    """Patches of a side that become one token, where the file does not say."""
    inner: int = 0
    """The network's width by the encoder's, where files tell another number."""
    least: int = 0
    most: int = 0
    """Tokens of an image, where images keep their proportions; 0 where all have one size."""
    tokens: Callable[[Numbers, Grid], int] = _merged
    pieces: Callable[[Numbers], int] = _one
    """Parts that an image is cut into at most; each is encoded as an image of its own."""
    around: int = 2
    """Tokens of text that stand around an image or a part of it."""
    batches: bool = False
    """Whether images of one size are computed at once."""
    bare: bool = False
    """Whether there is no encoder: patches of the size of a token go straight to the text model."""
    sounds: tuple[str, Callable[[Encoder], Node]] | None = None
    """The encoder for sounds that files of the type also hold: its name and its first graph, at start."""
    whole: Callable[[Numbers], bool] = _never
    """Whether the text model reads an image in one piece, as each token sees those after it."""


@lru_cache(maxsize=512)
def grids(kind: Kind, numbers: Numbers, most: int) -> tuple[Grid, ...]:
    """The largest images of every proportion, given the most tokens of one."""
    if not kind.most:
        side = numbers.image // numbers.patch
        return ((side, side),)
    # as it comes, each side rounded to tokens; where the bound is exceeded, scaled down and rounded down
    cells = {
        (across, min(most // across, MAX_RATIO * across + MAX_RATIO // 2))
        for across in range(1, isqrt(most) + 1)
    }
    if most < MAX_RATIO:
        cells.add((1, isqrt(MAX_RATIO * most)))
    # below the type's least: scaled up and rounded up, which may be more than the bound
    least = kind.least
    cells |= {
        (across + 1, least // across + 1)
        for across in range(1, isqrt(least) + 1)
        if least <= MAX_RATIO * across**2
    }
    cells.add((isqrt(least // MAX_RATIO) + 1, isqrt(MAX_RATIO * least) + 1))
    both = cells | {(down, across) for across, down in cells}
    return tuple(sorted((across * numbers.merge, down * numbers.merge) for across, down in both))


def widest(kind: Kind, numbers: Numbers, most: int) -> tuple[Grid, ...]:
    """Of those the ones that may take most memory: with most patches, most tokens, and the extreme ones."""
    found = grids(kind, numbers, most)
    return tuple(
        dict.fromkeys(
            (
                max(found, key=lambda grid: (grid[0] * grid[1], -abs(grid[0] - grid[1]))),
                max(found, key=lambda grid: kind.tokens(numbers, grid)),
                found[0],
                found[-1],
            )
        )
    )


def batches(kind: Kind, numbers: Numbers, most: int) -> tuple[tuple[int, int], ...]:
    """How many images are computed at once, and the most tokens that each of so many has."""
    if not kind.batches:
        return ((1, most),)
    if not kind.most:
        tokens = kind.tokens(numbers, grids(kind, numbers, most)[0])
        return ((max(1, BATCH_TOKENS // tokens), most),)
    several = range(2, BATCH_TOKENS // kind.least + 1)
    return ((1, most), *((count, min(most, BATCH_TOKENS // count)) for count in several))
