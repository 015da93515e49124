"""Decoders of attention and a network on every token, the two one after the other or side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks
from berth.engine.graphs.steps import attention, decoder, finish, wanted

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder
    from berth.engine.graphs.steps import Network


def llama(build: Builder) -> None:
    """Llama, Mistral and Mixtral; Ministral scales its queries by position."""
    numbers = build.numbers
    scale = build.input(g.F32, 1, 1, build.tokens) if numbers.attention_temperature else None

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, factors=True, position_scale=scale)

    decoder(build, attend, _gated_or_experts(build))
    finish(build)


def qwen2(build: Builder) -> None:
    """Qwen 1.5, 2 and 2.5."""
    decoder(build, lambda layer, value, positions: attention(build, layer, value, positions), _gated(build))
    finish(build)


def qwen3(build: Builder) -> None:
    """Qwen 3: norms on queries and keys."""

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, norms=True)

    decoder(build, attend, _gated(build))
    finish(build)


def qwen3vl(build: Builder) -> None:
    """The language part of Qwen 3 VL: features of the image join the first layers."""
    numbers = build.numbers
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    extra = hidden
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm")
        value = attention(build, layer, value, positions, norms=True)
        value, before = wanted(layer, build, ids, value, before)
        middle = g.binary("add", value, before)
        value = build.layer_norm(middle, layer, "ffn_norm")
        if numbers.experts:
            value = networks.experts(build, value, layer, normalize=True)
        else:
            value = networks.dense(build, value, layer)
        hidden = g.binary("add", value, middle)
        if layer < numbers.deepstack_layers:
            part = g.view(extra, (numbers.embedding, build.tokens), extra.nb[1:2])
            hidden = g.binary("add", hidden, part)
    build.hidden = hidden
    finish(build)


def smollm3(build: Builder) -> None:
    """SmolLM 3: every few layers without positions."""
    step = build.numbers.no_rope_step

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, rope=(layer + 1) % step != 0)

    decoder(build, attend, _gated(build))
    finish(build)


def seed_oss(build: Builder) -> None:
    """Seed OSS: the norm before the network has another name."""
    decoder(
        build,
        lambda layer, value, positions: attention(build, layer, value, positions),
        _gated(build),
        before_network="post_attention_norm",
    )
    finish(build)


def starcoder2(build: Builder) -> None:
    """StarCoder 2: layer norms, no gate."""

    def network(layer: int, value: Node) -> Node:
        return networks.dense(build, value, layer, activation="plain")

    decoder(
        build, lambda layer, value, positions: attention(build, layer, value, positions), network, norm="norm"
    )
    finish(build, norm="norm", bias=False)


def phi3(build: Builder) -> None:
    """Phi 3, 3.5 and 4, and Phi 3.5 MoE: scaled queries; the residual is the first operand."""

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, factors=True, scaled=True)

    def network(layer: int, value: Node) -> Node:
        if build.numbers.experts:
            return networks.experts(build, value, layer, normalize=True)
        return networks.dense(build, value, layer, activation="halves")

    decoder(build, attend, network, residual_first=True)
    finish(build)


def phi2(build: Builder) -> None:
    """Phi 1.5 and 2: attention and network side by side from one norm."""
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        normed = build.layer_norm(hidden, layer, "attn_norm", "norm")
        value = attention(build, layer, normed, positions, scaled=True)
        value, hidden, normed = wanted(layer, build, ids, value, hidden, normed)
        network = networks.dense(build, normed, layer, activation="plain")
        hidden = g.binary("add", g.binary("add", value, network), hidden)
    build.hidden = hidden
    finish(build, norm="norm")


def falcon(build: Builder) -> None:
    """Falcon: attention and network side by side, from the same or from two norms."""
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        normed = build.layer_norm(hidden, layer, "attn_norm", "norm")
        seen = normed
        if build.has(f"blk.{layer}.attn_norm_2.weight"):
            seen = build.layer_norm(hidden, layer, "attn_norm_2", "norm")
        value = attention(build, layer, seen, positions)
        value, hidden, normed = wanted(layer, build, ids, value, hidden, normed)
        network = networks.dense(build, normed, layer, activation="plain")
        hidden = g.binary("add", g.binary("add", network, value), hidden)
    build.hidden = hidden
    finish(build, norm="norm", bias=False)


def cohere(build: Builder) -> None:
    """Command R and Command R7B: attention and network side by side; the latter with sliding windows."""
    numbers = build.numbers
    windows = numbers.window_kind != "none"
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        normed = build.layer_norm(hidden, layer, "attn_norm", "norm")
        value = attention(
            build, layer, normed, positions, norms="norm" if not windows else False,
            rope=not windows or numbers.windowed[layer], factors=windows, windows=windows,
        )  # fmt: skip
        value, hidden, normed = wanted(layer, build, ids, value, hidden, normed)
        network = networks.dense(build, normed, layer)
        hidden = g.binary("add", g.binary("add", network, hidden), value)
    build.hidden = hidden
    finish(build, norm="norm", bias=False, scaled=bool(numbers.logit_scale))


def stablelm(build: Builder) -> None:
    """StableLM 2: without ffn_norm the network sees what attention saw."""
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        normed = build.layer_norm(hidden, layer, "attn_norm", "norm")
        value = attention(build, layer, normed, positions, norms="norm")
        value, hidden, normed = wanted(layer, build, ids, value, hidden, normed)
        middle = g.binary("add", value, hidden)
        if build.has(f"blk.{layer}.ffn_norm.weight"):
            normed = build.layer_norm(middle, layer, "ffn_norm", "norm")
        hidden = g.binary("add", networks.dense(build, normed, layer), middle)
    build.hidden = hidden
    finish(build, norm="norm", bias=False)


def _gated(build: Builder) -> Network:
    return lambda layer, value: networks.dense(build, value, layer)


def _gated_or_experts(build: Builder) -> Network:
    if build.numbers.experts:
        return lambda layer, value: networks.experts(build, value, layer, normalize=True)
    return _gated(build)
