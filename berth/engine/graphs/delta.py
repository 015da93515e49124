"""Decoders with gated delta nets: Qwen 3.5 and Qwen 3 Next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks
from berth.engine.graphs.recurrent import States, join
from berth.engine.graphs.steps import finish_normed, late_output

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder


def qwen35(build: Builder) -> None:
    """Qwen 3.5 and Qwen 3 Next: gated delta nets, every few layers attention with a gate."""
    numbers = build.numbers
    hidden = build.embedding()
    states = States(build)
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        before = hidden
        value = build.expand(build.layer_norm(hidden, layer, "attn_norm"))
        if numbers.recurrent[layer]:
            value = _delta_net(build, states, layer, value)
        else:
            value = _gated_attention(build, layer, value, positions)
        middle = g.binary("add", value, before)
        value = build.layer_norm(middle, layer, "post_attention_norm")
        hidden = g.binary("add", _qwen35_network(build, layer, value), middle)
    hidden = late_output(build, build.norm_output(hidden), ids)
    finish_normed(build, hidden, bias=False)


def _qwen35_network(build: Builder, layer: int, value: Node) -> Node:
    if not build.numbers.experts:
        return networks.dense(build, value, layer)
    routed = networks.experts(build, value, layer, normalize=True)
    if not build.has(f"blk.{layer}.ffn_up_shexp.weight"):
        return routed
    shared = networks.dense(build, value, layer, suffix="_shexp")
    gate = g.unary(g.mul_mat(build.own(layer, "ffn_gate_inp_shexp.weight"), value))
    return g.binary("add", routed, g.binary("mul", shared, gate))


def _gated_attention(build: Builder, layer: int, value: Node, positions: Node) -> Node:
    numbers, tokens = build.numbers, build.tokens
    head, heads, kv_heads = numbers.key_length, numbers.heads[layer], numbers.kv_heads[layer]
    both = build.linear(value, layer, "attn_q")
    strides = (8 * head, 8 * head * heads)
    query = g.view(both, (head, heads, tokens), strides)
    query = build.rope(build.layer_norm(query, layer, "attn_q_norm"), positions)
    key = g.reshape(build.linear(value, layer, "attn_k"), head, kv_heads, tokens)
    key = build.rope(build.layer_norm(key, layer, "attn_k_norm"), positions)
    gate = g.cont(g.view(both, (head, heads, tokens), strides), head * heads, tokens)
    values = g.reshape(build.linear(value, layer, "attn_v"), head, kv_heads, tokens)
    result = build.attend(layer, query, key, values, output=None)
    return build.linear(g.binary("mul", result, g.unary(gate)), layer, "attn_output")


def _delta_net(build: Builder, states: States, layer: int, value: Node) -> Node:
    numbers, batch = build.numbers, build.batch
    slots, tokens = batch.slots, batch.tokens_per_slot
    head, key_heads, heads = numbers.ssm_state, numbers.ssm_groups, numbers.ssm_rank
    wide, before = numbers.ssm_inner + 2 * key_heads * head, numbers.ssm_conv - 1
    mixed = g.mul_mat(build.own(layer, "attn_qkv.weight"), value)
    mixed = g.reshape(mixed, mixed.ne[0], tokens, slots)
    z = g.mul_mat(build.own(layer, "attn_gate.weight"), value)
    beta, gate = _write_strength(build, layer, value)
    kept, conv = states.load(layer, "r", before * wide)
    joined = join(build, g.reshape(conv, before, wide, slots), g.transpose(mixed), kept, before)
    kept, state = states.load(layer, "s", numbers.recurrent_state)
    inner_head = numbers.ssm_inner // heads
    state = g.reshape(state, inner_head, inner_head, heads, slots)
    kernel = build.own(layer, "ssm_conv1d.weight")
    mix = g.unary(
        g.fresh("ssm_conv", (kernel.ne[1], joined.ne[0] - kernel.ne[0] + 1, slots, 1), [joined, kernel])
    )
    row = 4 * (2 * head * key_heads + inner_head * heads)
    shape, strides = (head, key_heads, tokens, slots), (4 * head, row, row * tokens)
    queries, keys = (g.unary(g.unary(g.view(mix, shape, strides), "rms_norm"), "scale") for _ in range(2))
    values = g.view(mix, (inner_head, heads, tokens, slots), (4 * inner_head, row, row * tokens))
    if numbers.architecture == "qwen3next" and key_heads != heads:
        queries, keys = (_repeat_heads(part, heads // key_heads) for part in (queries, keys))
    scanned = g.fresh(
        "gated_delta_net",
        (inner_head * heads, tokens * slots + inner_head * slots, 1, 1),
        [queries, keys, values, gate, beta, state],
    )
    unit = 4 * inner_head
    result = g.view(scanned, (inner_head, heads, tokens, slots), (unit, unit * heads, unit * heads * tokens))
    after = g.view(
        scanned,
        (inner_head, inner_head, heads, slots),
        (unit, unit * inner_head, unit * inner_head * heads),
    )
    build.expand(g.copy_into(after, g.view(kept, (numbers.recurrent_state, slots), kept.nb[1:2])))
    gates = g.unary(g.reshape(z, inner_head, heads, tokens, slots))
    result = g.binary("mul", build.layer_norm(result, layer, "ssm_norm"), gates)
    result = build.linear(g.reshape(result, inner_head * heads, tokens, slots), layer, "ssm_out")
    return g.reshape(result, numbers.embedding, tokens * slots)


def _write_strength(build: Builder, layer: int, value: Node) -> tuple[Node, Node]:
    """How strongly each token is written into the state, and how much of the state remains."""
    numbers, batch = build.numbers, build.batch
    slots, tokens, heads = batch.slots, batch.tokens_per_slot, numbers.ssm_rank
    fused = build.optional(layer, "ssm_ba.weight")
    if fused is not None:
        groups = numbers.ssm_groups
        both = g.reshape(g.mul_mat(fused, value), 2 * heads // groups, groups, tokens, slots)
        shape = (heads // groups, groups, tokens, slots)
        beta = g.unary(g.cont(g.view(both, shape, both.nb[1:])))
        alpha = g.cont(g.view(both, shape, both.nb[1:]), heads, tokens, slots)
        beta = g.reshape(beta, 1, heads, tokens, slots)
    else:
        beta = g.reshape(g.mul_mat(build.own(layer, "ssm_beta.weight"), value), 1, heads, tokens, slots)
        beta = g.unary(beta)
        alpha = g.reshape(g.mul_mat(build.own(layer, "ssm_alpha.weight"), value), heads, tokens, slots)
    alpha = g.unary(g.binary("add", alpha, build.own(layer, "ssm_dt.bias")))
    gate = g.binary("mul", alpha, build.own(layer, "ssm_a"))
    return beta, g.reshape(gate, 1, heads, tokens, slots)


def _repeat_heads(part: Node, times: int) -> Node:
    ne = part.ne
    split = g.reshape(part, ne[0], 1, ne[1], ne[2] * ne[3])
    repeated = g.repeat(split, ne[0], times, ne[1], ne[2] * ne[3])
    return g.reshape(repeated, ne[0], ne[1] * times, ne[2], ne[3])
