"""What the graphs of all architectures share apart from attention: inputs, weights, norms, projections.

A builder follows the engine's own graph functions step by step, because the order in which tensors enter the
graph decides which memory is free when. Where a step depends on a tensor being in the file (a bias, a norm),
the layout says whether it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graph import F32, I32, Graph, Node
from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from berth.engine.devices import Placement
    from berth.engine.kv import Cache
    from berth.engine.layouts import Layout
    from berth.engine.settings import Batch
    from berth.engine.tensors import Tensor


MOST_RANK = 1024
"""Of LoRA adapters. No spec says an adapter's own; this is twice the most that vLLM serves (512:
`MaxLoRARanks` at docs.vllm.ai, v0.14). Between the two matrices of one lie four bytes for each token and
rank."""


def given(kind: str, *lengths: int) -> Node:
    """An input, which lies on the host."""
    node = g.leaf(kind, *lengths)
    node.input = True
    return node


def _on(device: int, node: Node) -> Node:
    """A tensor as it lies in a buffer of weights."""
    node.external = node.weight = node.seen = True
    node.device = device
    return node


class Base:
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
            tensor = self.layout.by_name.get(name)
            if tensor is None:
                raise InvalidGguf(f"the tensor {name} is missing, which {self.numbers.architecture} needs")
            node = self._loaded(tensor, self.placement.output if device is None else device)
            self._weights[name] = node
        return node

    def _loaded(self, tensor: Tensor, device: int) -> Node:
        """A tensor in a buffer of weights; a matrix takes every adapter, as nothing says which it spares."""
        adapters = self.batch.settings.adapters
        if not adapters or len(tensor.shape) == 1:
            return _on(device, g.leaf(tensor.type, *tensor.shape))
        width, height, *experts = tensor.shape
        rank = min(MOST_RANK, width, height)
        pairs = [
            (
                _on(device, g.leaf(g.F16, width, rank, *experts)),
                _on(device, g.leaf(g.F16, rank, height, *experts)),
            )
            for _ in adapters
        ]
        return _on(device, g.Adapted.of(g.leaf(tensor.type, *tensor.shape), pairs))

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
        ids = given(I32, tokens)
        other = given(F32, width, tokens)
        looked_up = g.get_rows(self.weight("token_embd.weight", self.placement.host), ids)
        if width != numbers.embedding:
            looked_up = g.pad(looked_up, width - numbers.embedding)
        self.expand(looked_up)
        self.expand(other)
        value = looked_up
        if width != numbers.embedding:
            value = g.view(value, (numbers.embedding, tokens), value.nb[1:2])
        if numbers.embedding_scale:
            if not g.contiguous(value):
                value = g.cont(value)
            value = g.unary(value, "scale")
        return self.expand(value)

    def positions(self) -> Node:
        return given(I32, self.tokens * self.numbers.positions_per_token)

    def output_ids(self) -> Node:
        return given(I32, self.batch.outputs)

    def input(self, kind: str, *lengths: int) -> Node:
        """An input of an architecture's own."""
        return given(kind, *lengths)

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
            node = self._loaded(tensor, self.placement.output)
            self._weights["tied"] = node
        return node

    def result(self, logits: Node) -> Node:
        """Mark a tensor as a result and finish the graph with it."""
        logits.output = True
        return self.expand(logits)

    # steps of a layer

    def norm(self, value: Node, weight: Node | None, bias: Node | None = None, op: str = "rms_norm") -> Node:
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
                    node = self._loaded(tensor, device)
                    self._weights[key] = node
                return node
        return None

    def _long_or_short(self) -> str:
        long = self.batch.slot_context > self.numbers.original_context
        return "rope_factors_long.weight" if long else "rope_factors_short.weight"
