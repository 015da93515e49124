"""Attention: the cache is written and read, or the batch attends to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from berth.engine import graph as g
from berth.engine.graph import F16, F32, I64, Node
from berth.engine.graphs.base import Base, given
from berth.engine.kv import source_layer
from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.engine.devices import Placement
    from berth.engine.kv import Cache, Cells, LayerCache
    from berth.engine.layouts import Layout
    from berth.engine.settings import Batch


class Memory:
    """One cache as a graph uses it: the inputs that address it, made once."""

    __slots__ = ("cells", "key_rotation", "key_rows", "mask", "value_rotation", "value_rows")

    def __init__(self, cells: Cells, batch: Batch, widest_value: int, *, values: bool = True) -> None:
        tokens, flash = batch.tokens, batch.settings.flash_attention
        self.cells = cells
        self.key_rows = given(I64, tokens)
        self.value_rows = given(I64, tokens if flash else tokens * widest_value) if values else None
        self.mask = given(F16 if flash else F32, cells.cells, tokens // cells.streams, 1, cells.streams)
        key, value = cells.key_rotation, cells.value_rotation
        self.key_rotation = given(F32, key, key) if key and values else None
        self.value_rotation = given(F32, value, value) if value and values else None


class Builder(Base):
    """One graph under construction, attention included."""

    def __init__(
        self, layout: Layout, batch: Batch, cache: Cache, placement: Placement, layers: Sequence[int]
    ) -> None:
        super().__init__(layout, batch, cache, placement, layers)
        self._full: Memory | None = None
        self._sliding: Memory | None = None
        self._plain_masks: dict[bool, Node] = {}

    def memory(self, *, sliding: bool = False, values: bool = True) -> Memory:
        """The cache of full attention or of sliding windows, as inputs of this graph."""
        if sliding:
            if self._sliding is None:
                self._sliding = Memory(self.cache.sliding, self.batch, self.cache.widest_value)
            return self._sliding
        if self._full is None:
            self._full = Memory(self.cache.full, self.batch, self.cache.widest_value, values=values)
        return self._full

    def attend(
        self, layer: int, query: Node, key: Node | None, value: Node | None, *, sliding: bool | None = None,
        sinks: Node | None = None, output: str | None = "attn_output",
    ) -> Node:  # fmt: skip
        """Store keys and values, attend to the cache, and project the result.

        `sliding` is None where the model has one kind of cache; then keys are stored after values.
        """
        memory = self.memory(sliding=bool(sliding))
        if memory.key_rotation is not None:
            query = _rotate(query, memory.key_rotation)
            key = None if key is None else _rotate(key, memory.key_rotation)
        if memory.value_rotation is not None:
            value = None if value is None else _rotate(value, memory.value_rotation)
        self.expand(query)
        for part in (key, value) if sliding is not None else (value, key):
            if part is not None:
                self.expand(part)
        if key is not None:
            self._store_keys(layer, key, memory)
        if value is not None:
            self._store_values(layer, value, memory)
        source = source_layer(self.numbers, layer)
        result = self.heads(query, *self._read(source, layer, memory), mask=memory.mask, sinks=sinks)
        if memory.value_rotation is not None:
            result = _rotate(result, memory.value_rotation)
        return result if output is None else self.linear(result, layer, output)

    def attend_compressed(
        self, layer: int, query: Node, key: Node, value: Node, decompress: Node,
        output: str | None = "attn_output",
    ) -> Node:  # fmt: skip
        """Multi-head latent attention: values are the first part of the keys."""
        memory = self.memory(values=False)
        self.expand(query)
        self.expand(value)
        self.expand(key)
        self._store_keys(layer, key, memory)
        keys = self._read_keys(layer, memory)
        values = g.view(keys, (value.ne[0], *keys.ne[1:]), keys.nb[1:])
        result = self.heads(query, keys, values, mask=memory.mask, decompress=decompress)
        return result if output is None else self.linear(result, layer, output)

    def attend_batch(self, layer: int, query: Node, key: Node, value: Node, *, sliding: bool = False) -> Node:
        """Attention of an encoder: within the batch, nothing is kept."""
        mask = self._plain_masks.get(sliding)
        if mask is None:
            mask = given(F16 if self.flash else F32, self.tokens, self.tokens)
            self._plain_masks[sliding] = mask
        for part in (query, key, value):
            self.expand(part)
        result = self.heads(query, key, value, mask=mask)
        return self.linear(result, layer, "attn_output")

    def _store_keys(self, layer: int, key: Node, memory: Memory) -> None:
        width, tokens = key.ne[0] * key.ne[1], key.ne[2]
        merged = g.view(key, (width, tokens), (key.nb[2],))
        store = self._key_store(layer, memory)
        if memory.cells.streams > 1:
            store = g.reshape(store, width, store.ne[1] * memory.cells.streams)
        self.expand(g.set_rows(store, merged, memory.key_rows))

    def _store_values(self, layer: int, value: Node, memory: Memory) -> None:
        width, tokens = value.ne[0] * value.ne[1], value.ne[2]
        store = self._value_store(layer, memory)
        rows = memory.value_rows
        assert rows is not None
        if self.flash:
            merged = g.view(value, (width, tokens), (value.nb[2],))
            if memory.cells.streams > 1:
                store = g.reshape(store, width, store.ne[1] * memory.cells.streams)
            self.expand(g.set_rows(store, merged, rows))
            return
        dense = 4 * width == value.nb[2]
        merged = g.reshape(value, width, tokens) if dense else g.cont(value, width, tokens)
        if width < store.ne[0]:
            merged = g.pad(merged, store.ne[0] - width)
        count = store.ne[0] * store.ne[1] * store.ne[2]
        single = g.reshape(merged, 1, merged.ne[0] * merged.ne[1])
        self.expand(g.set_rows(g.reshape(store, 1, count), single, rows))

    def _key_store(self, layer: int, memory: Memory) -> Node:
        cells = memory.cells
        width = self._entry(layer).key_width
        return self.kept("k", layer, self.batch.key_type, width, cells.cells, cells.streams)

    def _value_store(self, layer: int, memory: Memory) -> Node:
        cells = memory.cells
        width = self._entry(layer).value_width
        return self.kept("v", layer, self.batch.value_type, width, cells.cells, cells.streams)

    def _entry(self, layer: int) -> LayerCache:
        entry = self.cache.layers[layer] if layer >= 0 else None
        if entry is None:
            raise InvalidGguf(f"layer {layer} is read from, and keeps no keys and values")
        return entry

    def _read(self, source: int, layer: int, memory: Memory) -> tuple[Node, Node]:
        """The cache as keys and values by head; `source` owns it, `layer` says how it is cut."""
        keys = self._read_keys(source, memory, layer)
        numbers, cells, kind = self.numbers, memory.cells, self.batch.value_type
        store = self._value_store(source, memory)
        head, heads, width = numbers.value_head(layer), numbers.kv_heads[layer], store.ne[0]
        if self.flash:
            shape: tuple[int, ...] = (head, heads, cells.cells, cells.streams)
            strides = (head, width, width * cells.cells)
        else:
            shape = (cells.cells, heads, head, cells.streams)
            strides = (cells.cells * head, cells.cells, cells.cells * width)
        return keys, g.view(store, shape, tuple(g.row_bytes(kind, stride) for stride in strides))

    def _read_keys(self, source: int, memory: Memory, layer: int = -1) -> Node:
        layer = source if layer < 0 else layer
        numbers, cells, kind = self.numbers, memory.cells, self.batch.key_type
        store = self._key_store(source, memory)
        head, heads, width = numbers.key_head(layer), numbers.kv_heads[layer], store.ne[0]
        strides = (head, width, width * cells.cells)
        return g.view(
            store, (head, heads, cells.cells, cells.streams),
            tuple(g.row_bytes(kind, stride) for stride in strides),
        )  # fmt: skip

    def heads(
        self, query: Node, key: Node, value: Node, *, mask: Node, sinks: Node | None = None,
        decompress: Node | None = None,
    ) -> Node:  # fmt: skip
        """Attention of all heads at once: one fused step, or with every score in memory."""
        transposed = value.nb[1] > value.nb[2]
        streams = key.ne[3]
        ne, nb = query.ne, query.nb
        share = ne[2] // streams
        query = g.view(query, (ne[0], ne[1], share, streams), (nb[1], nb[2], nb[2] * share))
        query = g.permute(query, 0, 2, 1, 3)
        key = g.permute(key, 0, 2, 1, 3)
        value = g.permute(value, 0, 2, 1, 3)
        if self.flash:
            result = self._flash(query, key, value, transposed, mask, sinks, decompress)
        else:
            result = self._scores(query, key, value, transposed, mask, sinks, decompress)
        return self.expand(result)

    def _flash(
        self, query: Node, key: Node, value: Node, transposed: bool, mask: Node, sinks: Node | None,
        decompress: Node | None,
    ) -> Node:  # fmt: skip
        if transposed:
            value = g.transpose(value)
        if key.kind == F32:
            key = g.cast(key, F16)
        if value.kind == F32:
            value = g.cast(value, F16)
        sources = [query, key, value, mask]
        if sinks is not None:
            sources.append(sinks)
        ne = query.ne
        result = g.fresh("flash_attn", (value.ne[0], ne[2], ne[1], ne[3]), sources)
        if decompress is not None:
            result = g.mul_mat(decompress, g.permute(result, 0, 2, 1, 3))
            result = g.cont(g.permute(result, 0, 2, 1, 3))
        ne = result.ne
        return g.reshape(result, ne[0] * ne[1], ne[2] * ne[3])

    def _scores(
        self, query: Node, key: Node, value: Node, transposed: bool, mask: Node, sinks: Node | None,
        decompress: Node | None,
    ) -> Node:  # fmt: skip
        scores = g.mul_mat(key, query)
        if self.numbers.attention_softcap:
            scores = g.unary(g.unary(g.unary(scores, "scale")), "scale")
        sources = [scores, mask]
        if sinks is not None:
            sources.append(sinks)
        scores = g.like("soft_max", scores, sources)
        if not transposed:
            value = g.cont(g.transpose(value))
        result = g.mul_mat(value, scores)
        if decompress is not None:
            result = g.mul_mat(decompress, result)
        result = g.permute(result, 0, 2, 1, 3)
        ne = result.ne
        return g.cont(result, ne[0] * ne[1], ne[2] * ne[3])


class Architecture(Protocol):
    """Builds the graph of one architecture."""

    def __call__(self, build: Builder) -> None: ...


def _rotate(value: Node, rotation: Node) -> Node:
    """Spread values over a block with a fixed matrix, so that they quantize better."""
    side, ne = rotation.ne[0], value.ne
    count = ne[0] * ne[1] * ne[2] * ne[3] // side
    flat = g.reshape(value, side, count) if g.contiguous(value) else g.cont(value, side, count)
    return g.reshape(g.mul_mat(rotation, flat), *ne)
