"""Decoders with experts: Qwen, gpt-oss, DeepSeek, GLM, MiniMax, OLMoE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks
from berth.engine.graphs.steps import attention, decoder, finish, finish_normed, late_output, wanted

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder
    from berth.engine.graphs.steps import Network


def qwen3moe(build: Builder) -> None:
    """Qwen 3 MoE."""

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, norms=True)

    decoder(build, attend, lambda layer, value: networks.experts(build, value, layer, normalize=True))
    finish(build, bias=False)


def qwen2moe(build: Builder) -> None:
    """Qwen 1.5 MoE and Qwen 2 57B: a shared expert with a gate of its own."""

    def network(layer: int, value: Node) -> Node:
        routed = networks.experts(build, value, layer)
        score = g.mul_mat(build.own(layer, "ffn_gate_inp_shexp.weight"), value)
        gate = g.binary("div", g.unary(score), score)
        shared = networks.dense(build, value, layer, suffix="_shexp")
        return g.binary("add", routed, g.binary("mul", shared, gate))

    decoder(build, lambda layer, value, positions: attention(build, layer, value, positions), network)
    finish(build, bias=False)


def olmoe(build: Builder) -> None:
    """OLMoE: norms over all heads."""

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, whole_norms=True)

    decoder(build, attend, lambda layer, value: networks.experts(build, value, layer))
    finish(build, bias=False)


def minimax_m2(build: Builder) -> None:
    """MiniMax M2: norms over all heads, a correction of the router."""
    gating = build.numbers.expert_gating

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, whole_norms=True)

    def network(layer: int, value: Node) -> Node:
        return networks.experts(build, value, layer, gating=gating, normalize=True)

    decoder(build, attend, network)
    finish(build, bias=False)


def gpt_oss(build: Builder) -> None:
    """gpt-oss: sinks, sliding windows; all tokens go through the last layer."""
    hidden = build.embedding()
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        value = build.layer_norm(hidden, layer, "attn_norm")
        sinks = build.optional(layer, "attn_sinks.weight")
        value = attention(build, layer, value, positions, windows=True, sinks=sinks)
        middle = g.binary("add", value, hidden)
        value = build.layer_norm(middle, layer, "post_attention_norm")
        value = networks.experts(build, value, layer, gating=networks.SOFTMAX_OF_CHOSEN)
        hidden = g.binary("add", value, middle)
    build.hidden = late_output(build, hidden, ids)
    finish(build, bias=False)


def glm4moe(build: Builder) -> None:
    """GLM 4.5 and 4.6: dense layers first, then experts and a shared one."""

    def attend(layer: int, value: Node, positions: Node) -> Node:
        return attention(build, layer, value, positions, norms=True)

    decoder(build, attend, _shared_and_routed(build), before_network="post_attention_norm")
    finish(build, bias=False)


def deepseek2(build: Builder) -> None:
    """DeepSeek V2, V3 and R1, Mistral Small 4: latent attention, experts and shared ones."""
    numbers = build.numbers
    hidden = build.embedding()
    scale = build.input(g.F32, 1, 1, build.tokens) if numbers.attention_temperature else None
    positions, ids = build.positions(), build.output_ids()
    network = _shared_and_routed(build)
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm")
        value = _latent_attention(build, layer, value, positions, scale)
        value, before = wanted(layer, build, ids, value, before)
        middle = g.binary("add", value, before)
        value = network(layer, build.layer_norm(middle, layer, "ffn_norm"))
        hidden = g.binary("add", value, middle)
    finish_normed(build, build.norm_output(hidden), bias=False)


def _latent_attention(build: Builder, layer: int, value: Node, positions: Node, scale: Node | None) -> Node:
    numbers, tokens = build.numbers, build.tokens
    rotated, rank, heads = numbers.rope_dimensions, numbers.kv_lora_rank, numbers.heads[layer]
    key_head = numbers.key_length_mla if numbers.mla else numbers.key_length
    value_head = numbers.value_length_mla if numbers.mla else numbers.value_length
    plain = key_head - rotated
    if build.has(f"blk.{layer}.attn_q.weight"):
        query = g.mul_mat(build.own(layer, "attn_q.weight"), value)
    else:
        query = g.mul_mat(build.own(layer, "attn_q_a.weight"), value)
        query = build.layer_norm(query, layer, "attn_q_a_norm")
        query = g.mul_mat(build.own(layer, "attn_q_b.weight"), query)
    query = g.reshape(query, key_head, heads, tokens)
    both = g.mul_mat(build.own(layer, "attn_kv_a_mqa.weight"), value)
    row = 4 * (rank + rotated)
    latent = g.view(both, (rank, tokens), (row,))
    key_part = build.rope(g.view(both, (rotated, 1, tokens), (row, row)), positions)
    latent = build.layer_norm(latent, layer, "attn_kv_a_norm")
    if numbers.mla:
        query = _absorbed(build, layer, query, positions, plain, rotated)
        latent = g.reshape(latent, rank, 1, tokens)
        key = g.concat(latent, key_part, 0)
        if scale is not None:
            query = g.binary("mul", query, scale)
        return build.attend_compressed(layer, query, key, latent, build.own(layer, "attn_v_b.weight"))
    whole = g.mul_mat(build.own(layer, "attn_kv_b.weight"), latent)
    strides = (4 * (plain + value_head), 4 * (plain + value_head) * heads)
    values = g.cont(g.view(whole, (value_head, heads, tokens), strides))
    key = g.concat(
        g.view(whole, (plain, heads, tokens), strides), g.repeat(key_part, rotated, heads, tokens), 0
    )
    query = build.rope(query, positions)
    if scale is not None:
        query = g.binary("mul", query, scale)
    return build.attend(layer, query, key, values)


def _absorbed(build: Builder, layer: int, query: Node, positions: Node, plain: int, rotated: int) -> Node:
    """Queries in the space of compressed keys."""
    ne, nb = query.ne, query.nb
    unrotated = g.permute(g.view(query, (plain, ne[1], ne[2]), nb[1:3]), 0, 2, 1, 3)
    turned = build.rope(g.view(query, (rotated, ne[1], ne[2]), nb[1:3]), positions)
    absorbed = g.permute(g.mul_mat(build.own(layer, "attn_k_b.weight"), unrotated), 0, 2, 1, 3)
    return g.concat(absorbed, turned, 0)


def _shared_and_routed(build: Builder) -> Network:
    """Dense layers first, then experts and, where the model has it, a shared one."""
    numbers = build.numbers

    def network(layer: int, value: Node) -> Node:
        if layer < numbers.leading_dense:
            return networks.dense(build, value, layer)
        routed = networks.experts(
            build, value, layer, gating=numbers.expert_gating or networks.SOFTMAX,
            normalize=numbers.expert_weights_norm,
        )  # fmt: skip
        return g.binary("add", routed, networks.dense(build, value, layer, suffix="_shexp"))

    return network
