"""Decoders with sliding windows or with norms behind attention and network: Gemma, OLMo, EXAONE, GLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks
from berth.engine.graphs.steps import attention, decoder, finish, finish_normed, late_output, pool, wanted

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder


def gemma(build: Builder) -> None:
    """Gemma 1."""
    start = g.unary(build.embedding(), "scale")

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, scaled=True)

    decoder(build, attend, lambda layer, value: networks.dense(build, value, layer), start=start)
    finish(build, bias=False)


def gemma2(build: Builder) -> None:
    """Gemma 2 and 3: norms behind attention and network, capped logits where the model has a cap."""
    numbers = build.numbers
    start = g.unary(build.embedding(), "scale")
    windows = numbers.window_kind != "none"

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, norms=True, scaled=True, windows=windows)

    decoder(build, attend, lambda layer, value: networks.dense(build, value, layer), start=start, behind=True)
    finish(build, bias=False, capped=numbers.architecture == "gemma2" or bool(numbers.final_softcap))


def gemma_embedding(build: Builder) -> None:
    """EmbeddingGemma: Gemma 3 as an encoder."""
    hidden = g.unary(build.embedding(), "scale")
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        value = build.layer_norm(hidden, layer, "attn_norm")
        query, key, value = build.qkv(value, layer)
        query = build.rope(build.layer_norm(query, layer, "attn_q_norm"), positions)
        key = build.rope(build.layer_norm(key, layer, "attn_k_norm"), positions)
        query = g.unary(query, "scale")
        value = build.attend_batch(layer, query, key, value, sliding=build.numbers.windowed[layer])
        value, hidden = wanted(layer, build, ids, value, hidden)
        middle = g.binary("add", build.layer_norm(value, layer, "post_attention_norm"), hidden)
        value = networks.dense(build, build.layer_norm(middle, layer, "ffn_norm"), layer)
        hidden = g.binary("add", build.layer_norm(value, layer, "post_ffw_norm"), middle)
    hidden = build.result(build.norm_output(hidden))
    pool(build, hidden)


def gemma4(build: Builder) -> None:
    """Gemma 4: heads of two lengths, embeddings for each layer, layers that share keys and values."""
    numbers = build.numbers
    hidden = g.unary(build.embedding(), "scale")
    positions, ids = build.positions(), build.output_ids()
    per_layer = _per_layer_inputs(build, hidden) if build.has("per_layer_token_embd.weight") else None
    for layer in build.layers:
        value = _gemma4_attention(build, layer, build.layer_norm(hidden, layer, "attn_norm"), positions)
        middle = g.binary("add", build.layer_norm(value, layer, "post_attention_norm"), hidden)
        value = build.layer_norm(_gemma4_network(build, layer, middle), layer, "post_ffw_norm")
        hidden = g.binary("add", value, middle)
        if per_layer is not None:
            gate = g.unary(build.linear(hidden, layer, "inp_gate"))
            shape = per_layer.ne
            own = g.view(per_layer, (shape[0], shape[1]), per_layer.nb[1:2])
            value = build.linear(g.binary("mul", gate, own), layer, "proj")
            hidden = g.binary("add", hidden, build.layer_norm(value, layer, "post_norm"))
        factor = build.optional(layer, "layer_output_scale.weight")
        if factor is not None:
            hidden = g.binary("mul", hidden, factor)
    hidden = late_output(build, build.norm_output(hidden), ids)
    finish_normed(build, hidden, bias=False, capped=bool(numbers.final_softcap))


def _per_layer_inputs(build: Builder, hidden: Node) -> Node:
    """Embeddings of each layer: looked up on the host, joined with a projection of the common ones."""
    numbers, tokens = build.numbers, build.tokens
    width, layers = numbers.embedding_per_layer, numbers.main_layers
    table = build.weight("per_layer_token_embd.weight", build.placement.host)
    looked_up = g.reshape(g.get_rows(table, build.input(g.I32, tokens)), width, layers, tokens)
    looked_up = build.expand(g.unary(looked_up, "scale"))
    first = build.placement.layers[0]
    projected = g.unary(g.mul_mat(build.weight("per_layer_model_proj.weight", first), hidden), "scale")
    projected = g.reshape(projected, width, layers, tokens)
    projected = build.norm(projected, build.weight("per_layer_proj_norm.weight", first))
    joined = g.unary(g.binary("add", projected, looked_up), "scale")
    return g.cont(g.permute(joined, 0, 2, 1, 3))


def _gemma4_attention(build: Builder, layer: int, value: Node, positions: Node) -> Node:
    numbers, tokens = build.numbers, build.tokens
    sliding = numbers.windowed[layer]
    head, kv_heads = numbers.key_head(layer), numbers.kv_heads[layer]
    factors = -1 if sliding else layer
    query = g.reshape(build.linear(value, layer, "attn_q"), head, numbers.heads[layer], tokens)
    query = build.rope(build.layer_norm(query, layer, "attn_q_norm"), positions, factors)
    if not numbers.has_kv(layer):
        return build.attend(layer, query, None, None, sliding=sliding)
    keys = build.linear(value, layer, "attn_k")
    values = build.linear(value, layer, "attn_v") if build.has(f"blk.{layer}.attn_v.weight") else keys
    key = g.reshape(keys, head, kv_heads, tokens)
    key = build.rope(build.layer_norm(key, layer, "attn_k_norm"), positions, factors)
    value = build.norm(g.reshape(values, head, kv_heads, tokens), None)
    return build.attend(layer, query, key, value, sliding=sliding)


def _gemma4_network(build: Builder, layer: int, value: Node) -> Node:
    if not build.has(f"blk.{layer}.ffn_gate_inp.weight"):
        return networks.dense(build, build.layer_norm(value, layer, "ffn_norm"), layer)
    shared = networks.dense(build, build.layer_norm(value, layer, "ffn_norm"), layer)
    shared = build.layer_norm(shared, layer, "post_ffw_norm_1")
    seen = build.layer_norm(value, layer, "pre_ffw_norm_2")
    router = g.unary(build.norm(value, None), "scale")
    router = g.binary("mul", router, build.own(layer, "ffn_gate_inp.scale"))
    logits = g.mul_mat(build.own(layer, "ffn_gate_inp.weight"), router)
    routed = networks.experts(build, seen, layer, normalize=True, logits=logits, scale=1.0)
    return g.binary("add", shared, build.layer_norm(routed, layer, "post_ffw_norm_2"))


def olmo2(build: Builder) -> None:
    """OLMo 2 and 3: no norm before attention and network, only behind them."""
    numbers = build.numbers
    windows = numbers.window_kind != "none"
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        value = attention(build, layer, hidden, positions, whole_norms=True, windows=windows)
        value, hidden = wanted(layer, build, ids, value, hidden)
        middle = g.binary("add", build.layer_norm(value, layer, "post_attention_norm"), hidden)
        value = build.layer_norm(networks.dense(build, middle, layer), layer, "post_ffw_norm")
        hidden = g.binary("add", value, middle)
    build.hidden = hidden
    finish(build, bias=False)


def exaone4(build: Builder) -> None:
    """EXAONE 4: as OLMo, with norms by head and positions in sliding layers only."""
    numbers = build.numbers
    windows = numbers.window_kind != "none"
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        value = attention(
            build, layer, hidden, positions, norms=True, rope=not windows or numbers.windowed[layer],
            factors=True, windows=windows,
        )  # fmt: skip
        value, hidden = wanted(layer, build, ids, value, hidden)
        middle = g.binary("add", build.layer_norm(value, layer, "post_attention_norm"), hidden)
        value = build.layer_norm(networks.dense(build, middle, layer), layer, "post_ffw_norm")
        hidden = g.binary("add", value, middle)
    build.hidden = hidden
    finish(build, bias=False)


def glm4(build: Builder) -> None:
    """GLM 4: norms behind attention and network, gate and up in one matrix."""

    def network(layer: int, value: Node) -> Node:
        return networks.dense(build, value, layer, activation="halves")

    decoder(
        build, lambda layer, value, positions: attention(build, layer, value, positions), network, behind=True
    )
    finish(build, bias=False)
