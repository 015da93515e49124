"""Encoders: they see a whole text at once and keep no cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks
from berth.engine.graphs.steps import pool, wanted

if TYPE_CHECKING:
    from berth.engine.graphs.attention import Builder


def bert(build: Builder) -> None:
    """BERT and Nomic Embed."""
    numbers = build.numbers
    rotary = numbers.architecture != "bert"
    host = build.placement.host
    positions = build.positions()
    hidden = build.embedding()
    if build.has("token_types.weight"):
        kinds = g.view(build.weight("token_types.weight", host), (numbers.embedding,))
        hidden = g.binary("add", hidden, kinds)
    if not rotary:
        hidden = g.binary("add", g.get_rows(build.weight("position_embd.weight", host), positions), hidden)
    first = build.placement.layers[0]
    bias = build.weight("token_embd_norm.bias", first) if build.has("token_embd_norm.bias") else None
    hidden = build.norm(hidden, build.weight("token_embd_norm.weight", first), bias, "norm")
    ids = build.output_ids()
    for layer in build.layers:
        query, key, value = build.qkv(hidden, layer)
        if rotary:
            query, key = build.rope(query, positions), build.rope(key, positions)
        value = build.attend_batch(layer, query, key, value)
        value, hidden = wanted(layer, build, ids, value, hidden)
        middle = build.layer_norm(g.binary("add", value, hidden), layer, "attn_output_norm", "norm")
        if rotary:
            value = networks.dense(build, middle, layer)
        else:
            value = networks.dense(build, middle, layer, activation="plain")
        hidden = build.layer_norm(g.binary("add", value, middle), layer, "layer_output_norm", "norm")
    build.result(hidden)
    pool(build, hidden)


def modern_bert(build: Builder) -> None:
    """ModernBERT: sliding windows, gate and up in one matrix."""
    numbers = build.numbers
    positions = build.positions()
    hidden = build.embedding()
    first = build.placement.layers[0]
    hidden = build.norm(hidden, build.weight("token_embd_norm.weight", first), None, "norm")
    ids = build.output_ids()
    for layer in build.layers:
        value = hidden
        if build.has(f"blk.{layer}.attn_norm.weight"):
            value = build.layer_norm(hidden, layer, "attn_norm", "norm")
        query, key, value = build.qkv(value, layer)
        query, key = build.rope(query, positions), build.rope(key, positions)
        value = build.attend_batch(layer, query, key, value, sliding=numbers.windowed[layer])
        value, hidden = wanted(layer, build, ids, value, hidden)
        middle = g.binary("add", value, hidden)
        value = build.layer_norm(middle, layer, "ffn_norm", "norm")
        value = networks.dense(build, value, layer, activation="halves")
        hidden = g.binary("add", value, middle)
    hidden = build.result(build.norm_output(hidden, "norm"))
    pool(build, hidden)
