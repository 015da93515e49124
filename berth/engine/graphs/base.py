"""What the graphs of all architectures share: inputs, norms, projections, attention, networks, outputs.

A builder follows the engine's own graph functions step by step, because the order in which tensors enter the
graph decides which memory is free when. Where a step depends on a tensor being in the file (a bias, a norm),
the layout says whether it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from berth.engine import graph as g
from berth.engine.graph import F16, F32, I32, I64, Graph, Node
from berth.engine.kv import Cells, source_layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from berth.engine.devices import Placement
    from berth.engine.kv import Cache
    from berth.engine.layouts import Layout
    from berth.engine.settings import Batch


class Memory:
    """One cache as a graph uses it: the inputs that address it, made once."""

    __slots__ = ("cells", "key_rotation", "key_rows", "mask", "value_rotation", "value_rows")

    def __init__(self, cells: Cells, batch: Batch, widest_value: int, *, values: bool = True) -> None:
        tokens, flash = batch.tokens, batch.settings.flash_attention
        self.cells = cells
        self.key_rows = _input(I64, tokens)
        self.value_rows = _input(I64, tokens if flash else tokens * widest_value) if values else None
        self.mask = _input(
            F16 if flash else F32, cells.cells, tokens // cells.streams, 1, cells.streams
        )
        key, value = cells.key_rotation, cells.value_rotation
        self.key_rotation = _input(F32, key, key) if key and values else None
        self.value_rotation = _input(F32, value, value) if value and values else None


class Architecture(Protocol):
    """Builds the graph of one architecture."""

    def __call__(self, build: Builder) -> None: ...


def _input(kind: str, *lengths: int) -> Node:
    node = g.leaf(kind, *lengths)
    node.input = True
    return node


class Builder:
    """One graph under construction."""

    def __init__(
        self, layout: Layout, batch: Batch, cache: Cache, placement: Placement, layers: Sequence[int]
    ) -> None:
        self.layout = layout
        self.numbers = layout.hyperparameters
        self.batch = batch
        self.cache = cache
        self.placement = placement
        self._layers = layers
        self.watch: set[int] = set()
        """Layers before which the allocator's state is wanted."""
        self.marks: dict[Node, int] = {}
        """The last tensor before each watched layer."""
        self.counts: dict[int, int] = {}
        """How many tensors there were before each layer."""
        self.last = self.numbers.main_layers - 1
        self.graph = Graph()
        self.hidden: Node
        """The result of the last layer, for what follows."""
        self.expand = self.graph.expand
        self.tokens = batch.tokens
        self.flash = batch.settings.flash_attention
        self._weights: dict[str, Node] = {}
        self._kept: dict[tuple[str, int], Node] = {}
        self._full: Memory | None = None
        self._sliding: Memory | None = None
        self._plain_masks: dict[bool, Node] = {}

    @property
    def layers(self) -> Iterator[int]:
        """The layers to build, one after the other; usually fewer than there are (`berth.engine.replay`)."""
        for layer in self._layers:
            self.counts[layer] = self.count()
            if layer in self.watch:
                self.marks[self.graph.nodes[-1]] = layer
            yield layer

    def count(self) -> int:
        """How many tensors there are by now, weights and cache included."""
        return len(self.graph.nodes) + len(self.graph.leafs) + len(self._weights) + len(self._kept)

    # weights

    def has(self, name: str) -> bool:
        """Whether the model has a tensor."""
        return name in self.layout.by_name

    def weight(self, name: str, device: int | None = None) -> Node:
        """A tensor of the model outside its layers; on the output's device unless another is named."""
        node = self._weights.get(name)
        if node is None:
            tensor = self.layout.by_name[name]
            node = g.leaf(tensor.type, *tensor.shape)
            node.external = node.weight = node.seen = True
            node.device = self.placement.output if device is None else device
            self._weights[name] = node
        return node

    def own(self, layer: int, name: str) -> Node:
        """A tensor of a layer."""
        return self.weight(f"blk.{layer}.{name}", self.placement.layers[layer])

    def optional(self, layer: int, name: str) -> Node | None:
        """A tensor of a layer, None where the model has none of it."""
        full = f"blk.{layer}.{name}"
        return self.weight(full, self.placement.layers[layer]) if full in self.layout.by_name else None

    def kept(self, name: str, layer: int, kind: str, *lengths: int) -> Node:
        """A tensor of the cache on its layer's device."""
        node = self._kept.get((name, layer))
        if node is None:
            node = g.leaf(kind, *lengths)
            node.external = node.seen = True
            node.device = self.placement.layers[layer]
            self._kept[name, layer] = node
        return node

    # inputs and outputs

    def embedding(self) -> Node:
        """Token embeddings, looked up on the host; the graph also holds an input for given ones."""
        numbers, tokens = self.numbers, self.tokens
        width = numbers.embedding * (1 + numbers.deepstack_layers)
        ids = _input(I32, tokens)
        given = _input(F32, width, tokens)
        looked_up = g.get_rows(self.weight("token_embd.weight", self.placement.host), ids)
        if width != numbers.embedding:
            looked_up = g.pad(looked_up, width - numbers.embedding)
        self.expand(looked_up)
        self.expand(given)
        value = looked_up
        if width != numbers.embedding:
            value = g.view(value, (numbers.embedding, tokens), value.nb[1:2])
        if numbers.embedding_scale:
            if not g.contiguous(value):
                value = g.cont(value)
            value = g.unary(value, "scale")
        return self.expand(value)

    def positions(self) -> Node:
        return _input(I32, self.tokens * self.numbers.positions_per_token)

    def output_ids(self) -> Node:
        return _input(I32, self.batch.outputs)

    def input(self, kind: str, *lengths: int) -> Node:
        """An input of an architecture's own."""
        return _input(kind, *lengths)

    def norm_output(self, hidden: Node, op: str = "rms_norm") -> Node:
        """The last norm of the model."""
        bias = self.weight("output_norm.bias") if self.has("output_norm.bias") else None
        return self.norm(hidden, self.weight("output_norm.weight"), bias, op=op)

    def logits(self, hidden: Node) -> Node:
        if self.has("output.weight"):
            return g.mul_mat(self.weight("output.weight"), hidden)
        return g.mul_mat(self.tied_output(), hidden)

    def tied_output(self) -> Node:
        """The copy of the token embedding that serves as output matrix."""
        node = self._weights.get("tied")
        if node is None:
            tensor = self.layout.by_name["token_embd.weight"]
            node = g.leaf(tensor.type, *tensor.shape)
            node.external = node.weight = node.seen = True
            node.device = self.placement.output
            self._weights["tied"] = node
        return node

    def result(self, logits: Node) -> Node:
        """Mark a tensor as a result and finish the graph with it."""
        logits.output = True
        return self.expand(logits)

    # steps of a layer

    def norm(
        self, value: Node, weight: Node | None, bias: Node | None = None, op: str = "rms_norm"
    ) -> Node:
        """A norm with its factors."""
        value = g.like(op, value, [value])
        if weight is not None:
            value = g.binary("mul", value, weight)
        if bias is not None:
            value = g.binary("add", value, bias)
        return value

    def layer_norm(self, value: Node, layer: int, name: str, op: str = "rms_norm") -> Node:
        """A layer's norm by the name of its tensor."""
        weight, bias = self.own(layer, f"{name}.weight"), self.optional(layer, f"{name}.bias")
        return self.norm(value, weight, bias, op)

    def linear(self, value: Node, layer: int, name: str) -> Node:
        """A product with a layer's matrix, and its bias where there is one."""
        value = g.mul_mat(self.own(layer, f"{name}.weight"), value)
        bias = self.optional(layer, f"{name}.bias")
        return value if bias is None else g.binary("add", value, bias)

    def qkv(
        self, value: Node, layer: int, key_head: int = 0, value_head: int = 0, heads: int = 0
    ) -> tuple[Node, Node, Node]:
        """Queries, keys and values by head, from fused or separate projections."""
        numbers, tokens = self.numbers, self.tokens
        key_head = key_head or numbers.key_head(layer)
        value_head = value_head or numbers.value_head(layer)
        heads = heads or numbers.heads[layer]
        kv_heads = numbers.kv_heads[layer]
        clamp = numbers.clamp_kqv > 0
        fused = self.optional(layer, "attn_qkv.weight")
        if fused is not None:
            both = self.linear(value, layer, "attn_qkv")
            if clamp:
                both = g.unary(both, "clamp")
            row = both.nb[1]
            return (
                g.view(both, (key_head, heads, tokens), (4 * key_head, row)),
                g.view(both, (key_head, kv_heads, tokens), (4 * key_head, row)),
                g.view(both, (value_head, kv_heads, tokens), (4 * value_head, row)),
            )
        parts = []
        for name, head, count in (
            ("attn_q", key_head, heads), ("attn_k", key_head, kv_heads), ("attn_v", value_head, kv_heads),
        ):  # fmt: skip
            part = self.linear(value, layer, name)
            if clamp:
                part = g.unary(part, "clamp")
            parts.append(g.reshape(part, head, count, tokens))
        return parts[0], parts[1], parts[2]

    def rope(self, value: Node, positions: Node, layer: int = -1) -> Node:
        """Rotary embedding, with the model's factors where it has them and a layer is named."""
        sources = [value, positions]
        if layer >= 0:
            factors = self.rope_factors(layer)
            if factors is not None:
                sources.append(factors)
        return g.like("rope", value, sources)

    def rope_factors(self, layer: int) -> Node | None:
        """The factors of the rotary embedding, of which every device has a copy."""
        for name in ("rope_freqs.weight", self._long_or_short()):
            if self.has(name):
                device = self.placement.layers[layer]
                key = f"{name}@{device}"
                node = self._weights.get(key)
                if node is None:
                    tensor = self.layout.by_name[name]
                    node = g.leaf(tensor.type, *tensor.shape)
                    node.external = node.weight = node.seen = True
                    node.device = device
                    self._weights[key] = node
                return node
        return None

    def _long_or_short(self) -> str:
        long = self.batch.slot_context > self.numbers.original_context
        return "rope_factors_long.weight" if long else "rope_factors_short.weight"

    # attention

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

    def attend_batch(
        self, layer: int, query: Node, key: Node, value: Node, *, sliding: bool = False
    ) -> Node:
        """Attention of an encoder: within the batch, nothing is kept."""
        mask = self._plain_masks.get(sliding)
        if mask is None:
            mask = _input(F16 if self.flash else F32, self.tokens, self.tokens)
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
        entry = self.cache.layers[layer]
        assert entry is not None
        cells = memory.cells
        return self.kept("k", layer, self.batch.key_type, entry.key_width, cells.cells, cells.streams)

    def _value_store(self, layer: int, memory: Memory) -> Node:
        entry = self.cache.layers[layer]
        assert entry is not None
        cells = memory.cells
        return self.kept("v", layer, self.batch.value_type, entry.value_width, cells.cells, cells.streams)

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


def _rotate(value: Node, rotation: Node) -> Node:
    """Spread values over a block with a fixed matrix, so that they quantize better."""
    side, ne = rotation.ne[0], value.ne
    count = ne[0] * ne[1] * ne[2] * ne[3] // side
    flat = g.reshape(value, side, count) if g.contiguous(value) else g.cont(value, side, count)
    return g.reshape(g.mul_mat(rotation, flat), *ne)
