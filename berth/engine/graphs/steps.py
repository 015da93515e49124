"""The steps that most decoders take in the same order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from berth.engine import graph as g

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder

Attend = Callable[[int, "Node", "Node"], "Node"]
"""(layer, normed tokens, positions) -> what attention adds."""
Network = Callable[[int, "Node"], "Node"]
"""(layer, normed tokens) -> what the network adds."""
Norm = Literal["rms_norm", "norm"]


def wanted(layer: int, build: Builder, ids: Node, *values: Node) -> tuple[Node, ...]:
    """After the last layer's attention only the tokens whose results are wanted go on."""
    return tuple(g.get_rows(value, ids) for value in values) if layer == build.last else values


def attention(
    build: Builder, layer: int, value: Node, positions: Node, *, norms: bool | Norm = False,
    whole_norms: bool = False, rope: bool = True, factors: bool = False, scaled: bool = False,
    position_scale: Node | None = None, windows: bool = False, sinks: Node | None = None,
) -> Node:  # fmt: skip
    """Projections, rotary embedding, attention and the projection back.

    Args:
        build: the graph.
        layer: of the model.
        value: normed tokens.
        positions: of the tokens.
        norms: whether queries and keys are normed head by head, and how.
        whole_norms: whether they are normed over all heads at once.
        rope: whether positions are rotated into them.
        factors: whether the rotation uses the model's factors, if it has any.
        scaled: whether queries are scaled in a step of their own.
        position_scale: scales of queries by position.
        windows: whether the model has sliding windows, of which this layer may be one.
        sinks: one score more for each head.
    """
    query, key, value = build.qkv(value, layer)
    if norms:
        op = norms if isinstance(norms, str) else "rms_norm"
        query = _optional_norm(build, query, layer, "attn_q_norm", op)
        key = _optional_norm(build, key, layer, "attn_k_norm", op)
    if whole_norms:
        query = _norm_over_heads(build, query, layer, "attn_q_norm")
        key = _norm_over_heads(build, key, layer, "attn_k_norm")
    if rope:
        query = build.rope(query, positions, layer if factors else -1)
        key = build.rope(key, positions, layer if factors else -1)
    if scaled:
        query = g.unary(query, "scale")
    if position_scale is not None:
        query = g.binary("mul", query, position_scale)
    sliding = build.numbers.windowed[layer] if windows else None
    return build.attend(layer, query, key, value, sliding=sliding, sinks=sinks)


def _optional_norm(build: Builder, value: Node, layer: int, name: str, op: str) -> Node:
    weight = build.optional(layer, f"{name}.weight")
    return value if weight is None else build.norm(value, weight, None, op)


def _norm_over_heads(build: Builder, value: Node, layer: int, name: str) -> Node:
    ne = value.ne
    flat = value.sources[0]
    return g.reshape(build.layer_norm(flat, layer, name), *ne[:3])


def decoder(
    build: Builder, attend: Attend, network: Network, *, norm: Norm = "rms_norm", start: Node | None = None,
    before_network: str = "ffn_norm", behind: bool = False, residual_first: bool = False,
) -> None:  # fmt: skip
    """Layers of norm, attention, norm and network, each added to what came in.

    Args:
        build: the graph; its last layer's result is `build.hidden` afterwards.
        attend: what attention does.
        network: what the network does.
        norm: the kind of norm.
        start: embeddings, where the model does something with them first.
        before_network: the name of the norm between attention and network.
        behind: whether norms also follow attention and network.
        residual_first: whether the network's result is the second operand of its addition.
    """
    hidden = build.embedding() if start is None else start
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm", norm)
        value = attend(layer, value, positions)
        value, before = wanted(layer, build, ids, value, before)
        if behind:
            value = build.layer_norm(value, layer, "post_attention_norm", norm)
        middle = g.binary("add", value, before)
        value = network(layer, build.layer_norm(middle, layer, before_network, norm))
        if behind:
            value = build.layer_norm(value, layer, "post_ffw_norm", norm)
        hidden = g.binary("add", middle, value) if residual_first else g.binary("add", value, middle)
    build.hidden = hidden


def finish(
    build: Builder, *, norm: Norm = "rms_norm", bias: bool = True, scaled: bool = False, capped: bool = False
) -> None:
    """The last norm, the logits and what follows them; then pooling, where embeddings are asked for."""
    hidden = build.norm_output(build.hidden, norm)
    finish_normed(build, hidden, bias=bias, scaled=scaled, capped=capped)


def finish_normed(
    build: Builder, hidden: Node, *, bias: bool = True, scaled: bool = False, capped: bool = False
) -> None:
    """The logits of normed tokens and what follows them."""
    hidden.output = True
    logits = build.logits(hidden)
    if bias and build.has("output.bias"):
        logits = g.binary("add", logits, build.weight("output.bias"))
    if scaled:
        logits = g.unary(logits, "scale")
    if capped:
        logits = g.unary(g.unary(g.unary(logits, "scale")), "scale")
    build.result(logits)
    pool(build, hidden)


def late_output(build: Builder, hidden: Node, ids: Node) -> Node:
    """Tokens whose results are wanted, where the model keeps all of them up to here as a result."""
    hidden.output = True
    return g.get_rows(hidden, ids)


def pool(build: Builder, hidden: Node) -> None:
    """One vector, or one score, of each text, where embeddings are asked for."""
    if not build.batch.settings.embeddings:
        return
    pooling = build.numbers.pooling
    value = hidden
    if pooling == 1:
        shares = build.input(g.F32, build.tokens, build.batch.slots)
        value = g.mul_mat(g.cont(g.transpose(hidden)), shares)
    elif pooling in (2, 3, 4):
        value = g.get_rows(hidden, build.input(g.I32, build.batch.slots))
    if pooling == 4:
        value = _classify(build, value)
    value.output = True
    build.expand(value)
    if build.has("dense_2.weight"):
        value = g.mul_mat(build.weight("dense_2.weight"), value)
        if build.has("dense_3.weight"):
            value = g.mul_mat(build.weight("dense_3.weight"), value)
        value.output = True
        build.expand(value)


def _classify(build: Builder, value: Node) -> Node:
    if build.has("cls.weight"):
        value = g.mul_mat(build.weight("cls.weight"), value)
        if build.has("cls.bias"):
            value = g.binary("add", value, build.weight("cls.bias"))
        value = g.unary(value)
        if build.has("cls.norm.weight"):
            value = build.norm(value, build.weight("cls.norm.weight"), None, "norm")
    if build.has("cls.output.weight"):
        value = g.mul_mat(build.weight("cls.output.weight"), value)
        if build.has("cls.output.bias"):
            value = g.binary("add", value, build.weight("cls.output.bias"))
    if build.numbers.architecture in ("qwen3", "qwen3vl"):
        value = g.like("soft_max", value, [value])
    return value
