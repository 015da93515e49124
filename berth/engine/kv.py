"""What the engine keeps between batches: keys and values by layer, and the states of recurrent layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth.engine.graph import row_bytes
from berth.engine.settings import QUANTIZED, padded

if TYPE_CHECKING:
    from berth.engine.hyperparameters import Hyperparameters
    from berth.engine.settings import Batch

ENCODERS = frozenset({"bert", "nomic-bert", "modern-bert", "gemma-embedding"})
"""Architectures that see a whole text at once and keep nothing."""
_ALIGNMENT = 32
_ROTATION_STEP = 64


@dataclass(frozen=True, slots=True)
class Cells:
    """One of the engine's caches: that of full attention, or that of sliding windows."""

    cells: int
    """Tokens that one stream holds."""
    streams: int
    key_rotation: int
    """The side of the matrix that spreads quantized keys, 0 where there is none."""
    value_rotation: int


@dataclass(frozen=True, slots=True)
class LayerCache:
    """The widths of one layer's keys and values, in elements per token."""

    key_width: int
    value_width: int


@dataclass(frozen=True, slots=True)
class Cache:
    """Everything that is kept of all layers."""

    full: Cells
    sliding: Cells
    layers: tuple[LayerCache | None, ...]
    bytes: tuple[int, ...]
    """What each layer keeps, states included, in bytes."""
    widest_value: int
    """The value width of the widest layer, to which all are padded without flash attention."""


def keeps_attention(numbers: Hyperparameters, layer: int) -> bool:
    """Whether a layer has keys and values of its own."""
    if numbers.architecture in ENCODERS or layer >= numbers.main_layers or numbers.recurrent[layer]:
        return False
    if numbers.architecture in ("nemotron_h", "nemotron_h_moe") and numbers.feed_forward[layer]:
        return False
    return numbers.has_kv(layer)


def source_layer(numbers: Hyperparameters, layer: int) -> int:
    """The layer whose keys and values a layer uses: its own, or an earlier one's of the same kind."""
    start = numbers.kv_layers_from_start
    if start < 0 or layer < start:
        return layer
    return start - (2 if numbers.windowed[layer] else 1)


def cache(numbers: Hyperparameters, batch: Batch) -> Cache:
    """Lay out the cache of a model with these settings."""
    flash = batch.settings.flash_attention
    widest = max(numbers.value_width(layer) for layer in range(numbers.layers))
    cells, sliding = batch.slot_context, _sliding_cells(numbers, batch)
    layers: list[LayerCache | None] = []
    sizes: list[int] = []
    for layer in range(numbers.layers):
        if not keeps_attention(numbers, layer):
            layers.append(None)
            sizes.append(_state_bytes(numbers, batch, layer))
            continue
        value = numbers.value_width(layer) if flash else widest
        entry = LayerCache(numbers.key_width(layer), 0 if numbers.mla else value)
        layers.append(entry)
        tokens = batch.streams * (sliding if slides(numbers, layer) else cells)
        sizes.append(
            padded(row_bytes(batch.key_type, entry.key_width) * tokens, _ALIGNMENT)
            + padded(row_bytes(batch.value_type, entry.value_width) * tokens, _ALIGNMENT)
        )
    return Cache(
        full=_cells(numbers, batch, cells, layers, sliding=False),
        sliding=_cells(numbers, batch, sliding, layers, sliding=True),
        layers=tuple(layers),
        bytes=tuple(sizes),
        widest_value=widest,
    )


def slides(numbers: Hyperparameters, layer: int) -> bool:
    return numbers.window_kind != "none" and numbers.windowed[layer]


def _sliding_cells(numbers: Hyperparameters, batch: Batch) -> int:
    """Tokens of a window's cache: the window of every sequence in it and one batch."""
    window = numbers.window * (batch.slots if batch.settings.kv_unified else 1)
    return padded(min(batch.slot_context, window + batch.ubatch))


def _state_bytes(numbers: Hyperparameters, batch: Batch, layer: int) -> int:
    if layer >= numbers.main_layers or not numbers.recurrent[layer]:
        return 0
    return sum(
        padded(4 * elements * batch.slots, _ALIGNMENT)
        for elements in (numbers.conv_state, 0 if numbers.shortconv_cache else numbers.recurrent_state)
    )


def _cells(
    numbers: Hyperparameters, batch: Batch, cells: int, layers: list[LayerCache | None], *, sliding: bool
) -> Cells:
    members = [
        layer for layer, entry in enumerate(layers) if entry is not None and slides(numbers, layer) == sliding
    ]
    keys = {numbers.key_head(layer) for layer in members}
    values = set() if numbers.mla else {numbers.value_head(layer) for layer in members}
    key_rotation = value_rotation = 0
    if numbers.window_kind != "none" and any(numbers.recurrent):
        # the engine's memory of windows and states at once has no rotation
        return Cells(cells, batch.streams, 0, 0)
    if (
        batch.settings.cache_type_k in QUANTIZED
        and len(keys - {0}) == 1
        and numbers.key_head(0) % _ROTATION_STEP == 0
    ):
        (head,) = keys - {0}
        key_rotation = _ROTATION_STEP
        while head % (2 * key_rotation) == 0:
            key_rotation *= 2
    if (
        batch.settings.cache_type_v in QUANTIZED
        and len(values - {0}) == 1
        and numbers.value_head(0) % _ROTATION_STEP == 0
    ):
        value_rotation = _ROTATION_STEP
    return Cells(cells, batch.streams, key_rotation, value_rotation)
