"""Decoders with layers that keep a state of fixed size: Granite, Nemotron, LFM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graphs import networks
from berth.engine.graphs.steps import attention, finish, finish_normed, late_output, pool, wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder


class States:
    """The inputs that say which sequence's state is which."""

    __slots__ = ("build", "mine", "others")

    def __init__(self, build: Builder) -> None:
        self.build = build
        slots = build.batch.slots
        copies = build.input(g.I32, slots)
        self.mine = g.view(copies, (slots,))
        self.others = g.view(copies, (0,))

    def load(
        self, layer: int, name: str, width: int, read: Callable[[Node, Node], Node] = g.get_rows
    ) -> tuple[Node, Node]:
        """The states of all sequences: as they lie in memory, and as they are read."""
        build, slots = self.build, self.build.batch.slots
        kept = build.kept(name, layer, g.F32, width, slots)
        rows = g.reshape(kept, width, slots)
        build.expand(g.in_place(g.view(rows, (width,)), "scale"))
        found = build.expand(read(rows, self.mine))
        others = g.get_rows(rows, self.others)
        build.expand(g.copy_into(others, g.view(kept, (width, 0), kept.nb[1:2])))
        return kept, found


def granite(build: Builder) -> None:
    """Granite 3 and 4, dense or with experts, with or without Mamba 2 layers: every sum is scaled."""
    numbers = build.numbers
    hybrid = numbers.architecture == "granitehybrid"
    hidden = build.embedding()
    states = States(build) if hybrid else None
    positions, ids = build.positions(), build.output_ids()
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm")
        if states is not None and numbers.recurrent[layer]:
            value = _mamba2(build, states, layer, value)
        else:
            value = attention(build, layer, value, positions, rope=numbers.rope_finetuned, factors=True)
        value, before = wanted(layer, build, ids, value, before)
        if numbers.residual_scale:
            value = g.unary(value, "scale")
        middle = g.binary("add", value, before)
        value = _granite_network(build, layer, build.layer_norm(middle, layer, "ffn_norm"))
        if numbers.residual_scale:
            value = g.unary(value, "scale")
        hidden = g.binary("add", value, middle)
    build.hidden = hidden
    finish(build, bias=False, scaled=not hybrid or bool(numbers.logit_scale))


def _granite_network(build: Builder, layer: int, value: Node) -> Node:
    if not build.numbers.experts:
        return networks.dense(build, value, layer)
    routed = networks.experts(build, value, layer, normalize=True)
    if not build.numbers.shared_feed_forward:
        return routed
    return g.binary("add", routed, networks.dense(build, value, layer, suffix="_shexp"))


def nemotron_h(build: Builder) -> None:
    """Nemotron H and Nemotron 3: a layer is a mixer, attention or a network; no positions."""
    numbers = build.numbers
    hidden = build.embedding()
    states = States(build)
    ids = build.output_ids()
    for layer in build.layers:
        value = build.layer_norm(hidden, layer, "attn_norm")
        if numbers.recurrent[layer]:
            value = _mamba2(build, states, layer, value)
        elif numbers.feed_forward[layer] == 0:
            value = attention(build, layer, value, value, rope=False)
        else:
            value = _nemotron_network(build, layer, value)
        hidden = g.binary("add", value, hidden)
    hidden = late_output(build, build.norm_output(hidden), ids)
    finish_normed(build, hidden, bias=False)


def _nemotron_network(build: Builder, layer: int, value: Node) -> Node:
    if not build.has(f"blk.{layer}.ffn_gate_inp.weight"):
        return networks.dense(build, value, layer, activation="squared")
    latent = build.optional(layer, "ffn_latent_down.weight")
    seen = value if latent is None else g.mul_mat(latent, value)
    logits = g.mul_mat(build.own(layer, "ffn_gate_inp.weight"), value)
    routed = networks.experts(
        build, seen, layer, gating=networks.SIGMOID, normalize=build.numbers.expert_weights_norm,
        activation="squared", logits=logits,
    )  # fmt: skip
    back = build.optional(layer, "ffn_latent_up.weight")
    if back is not None:
        routed = g.mul_mat(back, routed)
    shared = networks.dense(build, value, layer, suffix="_shexp", activation="squared")
    return g.binary("add", routed, shared)


def _mamba2(build: Builder, states: States, layer: int, value: Node) -> Node:
    numbers, batch = build.numbers, build.batch
    slots, tokens = batch.slots, batch.tokens_per_slot
    inner, state, heads = numbers.ssm_inner, numbers.ssm_state, numbers.ssm_rank
    groups, head = numbers.ssm_groups, numbers.ssm_inner // numbers.ssm_rank
    wide, before = inner + 2 * groups * state, numbers.ssm_conv - 1
    kept, conv = states.load(layer, "r", before * wide)
    conv = g.reshape(conv, before, wide, slots)
    mixed = g.mul_mat(build.own(layer, "ssm_in.weight"), value)
    mixed = g.reshape(mixed, mixed.ne[0], tokens, slots)
    gate = g.view(mixed, (head, heads, tokens, slots), (4 * head, *mixed.nb[1:3]))
    signal = g.view(mixed, (wide, tokens, slots), mixed.nb[1:3])
    step = g.view(mixed, (heads, tokens, slots), mixed.nb[1:3])
    signal = _convolve(build, layer, conv, signal, kept, before)
    bias = build.optional(layer, "ssm_conv1d.bias")
    if bias is not None:
        signal = g.binary("add", signal, bias)
    signal = g.unary(signal)
    nb = signal.nb
    x = g.view(signal, (head, heads, tokens, slots), (4 * head, *nb[1:3]))
    b = g.view(signal, (state, groups, tokens, slots), (4 * state, *nb[1:3]))
    c = g.view(signal, (state, groups, tokens, slots), (4 * state, *nb[1:3]))
    step = g.binary("add", g.cont(step), build.own(layer, "ssm_dt.bias"))
    decay = build.own(layer, "ssm_a")

    def scan(rows: Node, ids: Node) -> Node:
        previous = g.reshape(rows, state, head, heads, slots)
        length = head * heads * tokens * slots + state * head * heads * slots
        return g.fresh("ssm_scan", (length, 1, 1, 1), [previous, x, step, decay, b, c, ids])

    kept, scanned = states.load(layer, "s", state * inner, scan)
    size = state * inner
    row = 4 * size
    build.expand(
        g.copy_into(
            g.view(scanned, (size, slots, 1), (row, row * slots)),
            g.view(kept, (size, slots, 1), (kept.nb[1], slots * row)),
        )
    )
    stride = x.nb[1]
    result = g.view(scanned, (head, heads, tokens, slots), (stride, heads * stride, tokens * heads * stride))
    result = g.binary("add", result, g.binary("mul", x, build.own(layer, "ssm_d")))
    result = g.glu(g.cont(gate), result)
    norm = build.optional(layer, "ssm_norm.weight")
    if norm is not None:
        result = build.norm(g.reshape(result, inner // groups, groups, tokens, slots), norm)
    return build.linear(g.reshape(result, inner, tokens * slots), layer, "ssm_out")


def _convolve(
    build: Builder, layer: int, before: Node, signal: Node, kept: Node, length: int,
    weight: str = "ssm_conv1d.weight",
) -> Node:  # fmt: skip
    """A convolution over time that starts with the last tokens of the batch before, and keeps its own."""
    joined = join(build, before, g.transpose(signal), kept, length)
    kernel = build.own(layer, weight)
    times = joined.ne[0] - kernel.ne[0] + 1
    return g.fresh("ssm_conv", (kernel.ne[1], times, joined.ne[2], 1), [joined, kernel])


def join(build: Builder, before: Node, signal: Node, kept: Node, length: int) -> Node:
    """The last tokens of the batch before and those of this one; this one's last are kept."""
    slots = build.batch.slots
    joined = g.concat(before, signal, 0)
    last = g.view(joined, (length, joined.ne[1], joined.ne[2]), joined.nb[1:3])
    build.expand(g.copy_into(last, g.view(kept, (kept.ne[0], slots), kept.nb[1:2])))
    return joined


def lfm2(build: Builder) -> None:
    """LFM 2, dense or with experts: short convolutions with some attention."""
    numbers = build.numbers
    windows = numbers.window_kind != "none"
    hidden = build.expand(build.embedding())
    states = States(build)
    positions, ids = build.positions(), build.output_ids()
    moe = numbers.architecture == "lfm2moe"
    for layer in build.layers:
        before = hidden
        value = build.layer_norm(hidden, layer, "attn_norm")
        if numbers.recurrent[layer]:
            value = _short_convolution(build, states, layer, value)
        else:
            value = attention(build, layer, value, positions, norms=True, windows=windows)
        value, before = wanted(layer, build, ids, value, before)
        middle = g.binary("add", before, value)
        value = build.layer_norm(middle, layer, "ffn_norm")
        if moe and layer >= numbers.leading_dense:
            value = networks.experts(
                build, value, layer, gating=numbers.expert_gating or networks.SIGMOID, normalize=True
            )
        else:
            value = networks.dense(build, value, layer)
        hidden = g.binary("add", middle, value)
    hidden = build.norm(hidden, build.weight("token_embd_norm.weight"))
    if build.batch.settings.embeddings:
        build.result(hidden)
        pool(build, hidden)
    else:
        finish_normed(build, hidden, bias=False)


def _short_convolution(build: Builder, states: States, layer: int, value: Node) -> Node:
    numbers, batch = build.numbers, build.batch
    tokens, slots, width = batch.tokens_per_slot, batch.slots, numbers.embedding
    before = numbers.shortconv_cache - 1
    value = g.reshape(value, width, tokens, slots)
    mixed = g.mul_mat(build.own(layer, "shortconv.in_proj.weight"), value)
    shape, strides = (width, mixed.ne[1], mixed.ne[2]), mixed.nb[1:3]
    b, c, x = (g.view(mixed, shape, strides) for _ in range(3))
    signal = g.binary("mul", b, x)
    kept, found = states.load(layer, "r", before * width)
    found = g.reshape(found, before, width, slots)
    result = _convolve(build, layer, found, signal, kept, before, "shortconv.conv.weight")
    result = g.mul_mat(build.own(layer, "shortconv.out_proj.weight"), g.binary("mul", c, result))
    return g.reshape(result, result.ne[0], tokens * slots)
