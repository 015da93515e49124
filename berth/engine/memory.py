"""How much memory the pinned engine takes: the façade of `berth.engine`.

Weights, cache and compute are what the engine itself reports; `overhead` is what CUDA adds on top
(`berth.engine.overhead`). All figures are bytes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from berth import plans
from berth.engine import kv, replay
from berth.engine.checks import LARGEST_CONTEXT, check_settings, flash_attention_on_cuda
from berth.engine.devices import place
from berth.engine.overhead import Overhead, overhead
from berth.engine.settings import PADDING, Batch, Settings
from berth.engine.weights import weights_by_device

if TYPE_CHECKING:
    from berth.engine.devices import Placement
    from berth.engine.layouts import Layout

__all__ = [
    "LARGEST_CONTEXT", "Overhead", "Settings", "check_settings", "flash_attention_on_cuda", "footprint",
    "largest_context", "least", "overhead", "trained_context",
]  # fmt: skip


_INTERPOLATIONS = 8
"""Guesses before halving, which ends for certain."""
_NEARLY = 32
"""The share of a context by which one that is nearly the largest may be smaller."""


class _Same:
    """A layout that is equal to itself alone: comparing all its tensors would cost more than it saves."""

    __slots__ = ("layout",)

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def __hash__(self) -> int:
        return id(self.layout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.layout is self.layout


def trained_context(layout: Layout) -> int:
    """The tokens of one sequence that the model was trained for."""
    return layout.hyperparameters.trained_context


def footprint(layout: Layout, settings: Settings, overhead: Overhead | None = None) -> plans.Memory:
    """What one server takes, GPU by GPU and on the host.

    Args:
        layout: the model.
        settings: llama-server's.
        overhead: of the GPU model; None counts none, so that `total` is the engine's own account.

    Raises:
        UnknownArchitecture: there is no memory model of the architecture.
        InvalidSettings: the engine would not start with these settings.
    """
    return _footprint(_Same(layout), settings, overhead)


@lru_cache(maxsize=2_048)
def _footprint(same: _Same, settings: Settings, overhead: Overhead | None) -> plans.Memory:
    layout = same.layout
    weights, cache, compute, batch = _engine(same, settings)
    extra = overhead.bytes(layout, batch) if overhead is not None else 0
    host = settings.gpus
    beside = _beside(settings)
    return plans.Memory(
        gpus=tuple(
            plans.GpuMemory(
                weights=weights[gpu],
                kv_cache=cache[gpu],
                compute=compute[gpu],
                overhead=extra,
                projector=beside[gpu],
                total=weights[gpu] + cache[gpu] + compute[gpu] + extra + (beside[gpu] or 0),
            )
            for gpu in range(settings.gpus)
        ),
        host=plans.HostMemory(
            weights=weights[host],
            kv_cache=cache[host],
            compute=compute[host],
            projector=beside[-1],
            total=weights[host] + cache[host] + compute[host] + (beside[-1] or 0),
        ),
    )


def least(layout: Layout, settings: Settings, overhead: Overhead | None = None) -> int:
    """What the fullest GPU takes at least: all but the compute buffer, which alone is dear to find out.

    Raises:
        UnknownArchitecture: there is no memory model of the architecture.
        InvalidSettings: the engine would not start with these settings.
    """
    return _least(_Same(layout), settings, overhead)


@lru_cache(maxsize=16_384)
def _least(same: _Same, settings: Settings, overhead: Overhead | None) -> int:
    weights, cache, batch = _given(same, settings)
    extra = overhead.bytes(same.layout, batch) if overhead is not None else 0
    held = [
        one + other + (beside or 0)
        for one, other, beside in zip(weights, cache, _beside(settings), strict=True)
    ]
    return max(held[: settings.gpus] or held) + extra


def _beside(settings: Settings) -> list[int | None]:
    """The projector's bytes by device; None where it has none. The engine keeps it on one GPU, the first."""
    there = settings.images
    if there is None:
        return [None] * (settings.gpus + 1)
    on_device = there.weights + there.compute
    if settings.gpus == 0:
        return [on_device + there.host]
    return [on_device, *[None] * (settings.gpus - 1), there.host]


@lru_cache(maxsize=4_096)
def _given(same: _Same, settings: Settings) -> tuple[list[int], list[int], Batch]:
    """Weights and cache by device, which are simply counted."""
    check_settings(same.layout, settings)
    numbers = same.layout.hyperparameters
    batch = Batch(settings, numbers.causal)
    placement = place(numbers.layers, settings.gpus, settings.tensor_split)
    weights = list(_weights(same, placement))
    for device in range(settings.gpus + 1):
        # nothing says what an adapter changes, so each GPU has room for all of it, and the host too: there
        # lies what changes the token embedding, with a copy on the first GPU while it computes
        weights[device] += sum(settings.adapters)
    return weights, _cache(same.layout, batch, placement), batch


@lru_cache(maxsize=2_048)
def _engine(same: _Same, settings: Settings) -> tuple[list[int], list[int], list[int], Batch]:
    """Weights, cache and compute buffers by device, which no GPU model changes."""
    if settings.adapters:
        _engine(same, replace(settings, adapters=()))  # refuses what the engine aborts at
    weights, cache, batch = _given(same, settings)
    placement = place(same.layout.hyperparameters.layers, settings.gpus, settings.tensor_split)
    return weights, cache, replay.compute(same.layout, batch, placement), batch


def largest_context(
    layout: Layout,
    settings: Settings,
    capacity: int,
    overhead: Overhead | None,
    upper: int,
    *,
    nearly: bool = False,
) -> int:
    """The most tokens per slot with which every GPU holds its share, up to `upper`; 0 where none do.

    Args:
        layout: the model.
        settings: all but the context, which does not count.
        capacity: usable bytes of each GPU.
        overhead: of the GPU model.
        upper: tokens per slot that are not exceeded, rounded down to what the engine pads to.
        nearly: whether one that is up to a thirty-second smaller will do, which is found in half the time.
    """

    def asked(steps: int) -> Settings:
        total = PADDING * steps * (1 if settings.kv_unified else settings.parallel)
        return replace(settings, context=total)

    def excess(steps: int) -> int:
        memory = footprint(layout, asked(steps), overhead)
        return max((gpu.total for gpu in memory.gpus), default=memory.host.total) - capacity

    def too_much(steps: int) -> bool:
        return least(layout, asked(steps), overhead) > capacity

    def crossing(low: int, high: int, straight: bool) -> int:
        """The last that fits if the compute buffer grows along a straight line, or if it is as at `high`.

        The one may be too much, the other is too little, so that both ends come nearer.
        """
        last = excess(high) - least(layout, asked(high), overhead)
        first = excess(low) - least(layout, asked(low), overhead) if straight else last
        below, above = low, high
        while above - below > 1:
            middle = (below + above) // 2
            dear = first + (last - first) * (middle - low) // (high - low)
            if least(layout, asked(middle), overhead) + dear > 0:
                above = middle
            else:
                below = middle
        return min(max(below, low + 1), high - 1)

    most = upper // PADDING
    if most < 1 or too_much(1):
        return 0
    if too_much(most):
        # the compute buffer counts nothing here, so more than this can't fit, and most of it will
        low, high = 1, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if too_much(middle) else (middle, high)
        most = low
    if excess(most) <= 0:
        return most * PADDING
    if most == 1 or (not nearly and excess(1) > 0):
        return 0
    low, high = 0 if nearly else 1, most
    for attempt in range(64):
        if high - low <= (max(1, low // _NEARLY) if nearly else 1):
            break
        if attempt < _INTERPOLATIONS:
            guess = crossing(low, high, straight=low > 0 and attempt % 2 == 1)
        else:
            guess = (low + high) // 2
        if excess(guess) > 0:
            high = guess
        elif nearly:
            low = guess
        elif excess(guess + 1) > 0:
            return guess * PADDING
        else:
            low = guess + 1
    return low * PADDING


@lru_cache(maxsize=2_048)
def _weights(same: _Same, placement: Placement) -> list[int]:
    return weights_by_device(same.layout, placement)


def _cache(layout: Layout, batch: Batch, placement: Placement) -> list[int]:
    """Bytes of the cache on every GPU and, last, on the host."""
    sizes = [0] * (placement.gpus + 1)
    for layer, size in enumerate(kv.cache(layout.hyperparameters, batch).bytes):
        sizes[placement.layers[layer]] += size
    return sizes
