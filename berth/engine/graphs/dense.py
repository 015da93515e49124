"""Decoders whose layers are attention and one network, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.base import Builder


def wanted(layer: int, build: Builder, ids: Node, *values: Node) -> tuple[Node, ...]:
    """After the last layer's attention only the tokens whose results are wanted go on."""
    return tuple(g.get_rows(value, ids) for value in values) if layer == build.last else values


def llama(build: Builder) -> None:
    """Llama, Mistral, Mixtral."""
    hidden = build.embedding()
    positions = build.positions()
    ids = build.output_ids()
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm")
        query, key, value = build.qkv(value, layer)
        query = build.rope(query, positions, layer)
        key = build.rope(key, positions, layer)
        value = build.attend(layer, query, key, value)
        value, before = wanted(layer, build, ids, value, before)
        middle = g.binary("add", value, before)
        value = build.layer_norm(middle, layer, "ffn_norm")
        if build.numbers.experts:
            value = networks.experts(build, value, layer, normalize=True)
        else:
            value = networks.dense(build, value, layer)
        hidden = g.binary("add", value, middle)
    build.finish(hidden)


def qwen2(build: Builder) -> None:
    """Qwen 1.5, 2, 2.5 and the language part of Qwen 2 VL."""
    hidden = build.embedding()
    positions = build.positions()
    ids = build.output_ids()
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm")
        query, key, value = build.qkv(value, layer)
        query = build.rope(query, positions)
        key = build.rope(key, positions)
        value = build.attend(layer, query, key, value)
        value, before = wanted(layer, build, ids, value, before)
        middle = g.binary("add", value, before)
        value = build.layer_norm(middle, layer, "ffn_norm")
        value = networks.dense(build, value, layer)
        hidden = g.binary("add", value, middle)
    build.finish(hidden)


def falcon(build: Builder) -> None:
    """Falcon: attention and network side by side, from the same or from two norms."""
    hidden = build.embedding()
    positions = build.positions()
    ids = build.output_ids()
    for layer in build.layers:
        normed = build.layer_norm(hidden, layer, "attn_norm", "norm")
        seen = normed
        if build.has(f"blk.{layer}.attn_norm_2.weight"):
            seen = build.layer_norm(hidden, layer, "attn_norm_2", "norm")
        query, key, value = build.qkv(seen, layer)
        query = build.rope(query, positions)
        key = build.rope(key, positions)
        attention = build.attend(layer, query, key, value)
        attention, hidden, normed = wanted(layer, build, ids, attention, hidden, normed)
        value = networks.dense(build, normed, layer, activation="plain")
        hidden = g.binary("add", g.binary("add", value, attention), hidden)
    build.finish(build.norm_output(hidden, "norm"), norm=False)
