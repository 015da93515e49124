"""How many parts an image is cut into at most, and the tokens of one where marks stand between them."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from berth.images import MAX_IMAGE_PIXELS, MAX_RATIO

if TYPE_CHECKING:
    from berth.engine.projectors.numbers import Numbers

_INTERNVL_TILES = 12
"""Where the file does not say."""
_LLAMA4_SIDE = 3
"""The engine's, which is less than the model's own."""


def pixtral(numbers: Numbers, grid: tuple[int, int]) -> int:
    """Tokens of Pixtral: a mark ends every row but the last."""
    rows = grid[1] // numbers.merge
    return (grid[0] // numbers.merge) * rows + rows - 1


def idefics3(numbers: Numbers) -> int:
    """Tiles of Idefics 3 up to its longest edge, and the whole; older files bound nothing."""
    side = numbers.image
    if numbers.longest_edge:
        return (-(-numbers.longest_edge // side)) ** 2 + 1
    edges = isqrt(MAX_IMAGE_PIXELS * MAX_RATIO) + isqrt(MAX_IMAGE_PIXELS // MAX_RATIO)
    return MAX_IMAGE_PIXELS // side**2 + edges // (2 * side) + 2


def internvl(numbers: Numbers) -> int:
    """Tiles of InternVL, and the whole."""
    return (numbers.max_tiles or _INTERNVL_TILES) + 1


def llama4(numbers: Numbers) -> int:
    """Tiles of Llama 4, and the whole."""
    return _LLAMA4_SIDE**2 + 1


def llava(numbers: Numbers) -> int:
    """Tiles of the sizes that LLaVA 1.6 scales to, and the whole; older ones see the whole alone."""
    points = numbers.pinpoints
    sizes = zip(points[::2], points[1::2], strict=False)
    tiles = [-(-w // numbers.image) * -(-h // numbers.image) for w, h in sizes]
    return max(tiles) + 1 if tiles else 1
