"""Which device holds which layer: the engine's `--split-mode layer`, in its own single precision."""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from berth.errors import InvalidSettings

MOST_GPUS = 15
"""The engine's scheduler knows 16 devices, of which the host is one."""


def _single(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of every layer and of the output; the host is the last device."""

    gpus: int
    layers: tuple[int, ...]
    output: int

    @property
    def host(self) -> int:
        """The host's number; without GPUs it is the only device."""
        return self.gpus

    def of_layer(self, layer: int) -> int:
        return self.layers[layer]


@lru_cache(maxsize=4096)
def place(layers: int, gpus: int, split: tuple[int, ...] = ()) -> Placement:
    """Spread all layers and the output, which counts as one more, over GPUs.

    Args:
        layers: all blocks of the model.
        gpus: how many; none puts everything on the host.
        split: shares of the GPUs, equal where empty or all zero.

    Raises:
        InvalidSettings: more GPUs than the engine can use, or shares that do not match them.
    """
    if gpus == 0:
        return Placement(0, (0,) * layers, 0)
    if not 0 < gpus <= MOST_GPUS:
        raise InvalidSettings(f"{gpus} GPUs: the engine uses 1 to {MOST_GPUS}")
    if split and len(split) != gpus:
        raise InvalidSettings(f"the tensor split has {len(split)} shares for {gpus} GPUs")
    shares = split if any(split) else (1,) * gpus
    total = 0.0
    sums = []
    for share in shares:
        total = _single(total + _single(share))
        sums.append(total)
    points = [_single(point / total) for point in sums]
    positions = [_single(layer / (layers + 1)) for layer in range(layers + 1)]
    places = [min(bisect_right(points, position), gpus - 1) for position in positions]
    return Placement(gpus, tuple(places[:-1]), places[-1])
