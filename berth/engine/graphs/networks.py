"""Feed-forward networks: gated or plain, dense or of experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from berth.engine import graph as g
from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from berth.engine.graph import Node
    from berth.engine.graphs.attention import Builder

SOFTMAX, SIGMOID, SOFTMAX_OF_CHOSEN, SQRT_SOFTPLUS = 1, 2, 3, 4
"""How a router turns scores into weights, numbered as in a file."""

Activation = Literal["gated", "plain", "halves", "squared"]


def dense(
    build: Builder, value: Node, layer: int, *, suffix: str = "", activation: Activation = "gated",
    gate: bool | None = None,
) -> Node:  # fmt: skip
    """A network on every token: up, perhaps a gate, an activation, down."""
    up = build.linear(value, layer, f"ffn_up{suffix}")
    if gate is None:
        gate = activation == "gated"
    if gate:
        gated = build.linear(value, layer, f"ffn_gate{suffix}")
        hidden = g.glu(gated, up)
    elif activation == "halves":
        hidden = g.glu(up)
    else:
        hidden = g.unary(up)
        if activation == "squared":
            hidden = g.unary(hidden, "sqr")
    return build.linear(hidden, layer, f"ffn_down{suffix}")


def experts(
    build: Builder, value: Node, layer: int, *, gating: int = SOFTMAX, normalize: bool = False,
    activation: Activation = "gated", router_input: Node | None = None, logits: Node | None = None,
    used: int = 0, scale: float | None = None, biased: bool = True,
) -> Node:  # fmt: skip
    """A network of experts, of which a router chooses a few for each token.

    Args:
        build: the graph.
        value: the tokens.
        layer: of the model.
        gating: how scores become weights.
        normalize: whether the chosen weights are made to sum up to one.
        activation: gated, or squared without a gate.
        router_input: what the router sees, where it is not `value`.
        logits: the router's scores, where they are made elsewhere.
        used: how many experts are chosen; the model's number if 0.
        scale: of the weights; the model's if None.
        biased: whether biases of the router count where the file has them.
    """
    numbers = build.numbers
    count = numbers.experts
    used = used or numbers.experts_used[layer]
    if not 0 < used <= count:
        raise InvalidGguf(f"layer {layer} uses {used} of {count} experts")
    scale = numbers.expert_weights_scale if scale is None else scale
    width, tokens = value.ne[0], value.ne[1]
    if logits is None:
        seen = value if router_input is None else router_input
        logits = g.mul_mat(build.own(layer, "ffn_gate_inp.weight"), seen)
    bias = build.optional(layer, "ffn_gate_inp.bias") if biased else None
    if bias is not None:
        logits = g.binary("add", logits, bias)
    shares = _shares(logits, gating)
    ranking = shares
    correction = build.optional(layer, "exp_probs_b.bias")
    if correction is not None:
        ranking = g.binary("add", shares, correction)
    if numbers.expert_groups > 1:
        ranking = _within_groups(ranking, count, numbers.expert_groups, numbers.expert_groups_used, tokens)
    chosen = g.top_k(ranking, used)
    weights = g.get_rows(g.reshape(shares, 1, count, tokens), chosen)
    if gating == SOFTMAX_OF_CHOSEN:
        weights = g.like("soft_max", flat := g.reshape(weights, used, tokens), [flat])
        weights = g.reshape(weights, 1, used, tokens)
    if normalize:
        flat = g.reshape(weights, used, tokens)
        total = g.unary(g.sum_rows(flat), "clamp")
        weights = g.reshape(g.binary("div", flat, total), 1, used, tokens)
    if scale not in (0.0, 1.0):
        weights = g.unary(weights, "scale")
    build.expand(weights)

    value = g.reshape(value, width, 1, tokens)
    hidden = _hidden(build, value, layer, chosen, activation)
    result = g.mul_mat_id(build.own(layer, "ffn_down_exps.weight"), hidden, chosen)
    result = _add_chosen(build, result, layer, "ffn_down_exps", chosen)
    factors = build.optional(layer, "ffn_down_exps.scale")
    if factors is not None:
        every = g.repeat(g.reshape(factors, 1, count, 1), 1, count, tokens)
        result = g.binary("mul", result, g.get_rows(every, chosen))
    result = build.expand(g.binary("mul", result, weights))
    return _sum(build, result, used, tokens)


def _shares(logits: Node, gating: int) -> Node:
    if gating == SOFTMAX:
        return g.like("soft_max", logits, [logits])
    if gating == SIGMOID:
        return g.unary(logits)
    if gating == SQRT_SOFTPLUS:
        return g.unary(g.unary(logits), "sqrt")
    return logits


def _within_groups(ranking: Node, count: int, groups: int, used: int, tokens: int) -> Node:
    """Scores of which only those in the best groups of experts remain."""
    each = count // groups
    grouped = g.reshape(ranking, each, groups, tokens)
    best = g.top_k(grouped, 2)
    scores = g.get_rows(g.reshape(grouped, 1, *grouped.ne[:3]), best)
    scores = g.sum_rows(g.reshape(scores, *scores.ne[1:]))
    chosen = g.top_k(g.reshape(scores, *scores.ne[1:3]), used)
    remaining = g.get_rows(grouped, chosen)
    return g.reshape(g.set_rows(g.unary(grouped, "fill"), remaining, chosen), count, tokens)


def _hidden(build: Builder, value: Node, layer: int, chosen: Node, activation: Activation) -> Node:
    fused = build.optional(layer, "ffn_gate_up_exps.weight")
    if fused is not None:
        both = g.mul_mat_id(fused, value, chosen)
        both = _add_chosen(build, both, layer, "ffn_gate_up_exps", chosen)
        ne, nb = both.ne, both.nb
        shape = (ne[0] // 2, ne[1], ne[2])
        return g.glu(g.view(both, shape, nb[1:3]), g.view(both, shape, nb[1:3]))
    up = g.mul_mat_id(build.own(layer, "ffn_up_exps.weight"), value, chosen)
    up = _add_chosen(build, up, layer, "ffn_up_exps", chosen)
    gate = build.optional(layer, "ffn_gate_exps.weight")
    if gate is not None:
        gated = g.mul_mat_id(gate, value, chosen)
        return g.glu(_add_chosen(build, gated, layer, "ffn_gate_exps", chosen), up)
    hidden = g.unary(up)
    return g.unary(hidden, "sqr") if activation == "squared" else hidden


def _add_chosen(build: Builder, value: Node, layer: int, name: str, chosen: Node) -> Node:
    bias = build.optional(layer, f"{name}.bias")
    return value if bias is None else g.like("add_id", value, [value, bias, chosen])


def _sum(build: Builder, result: Node, used: int, tokens: int) -> Node:
    """The sum over the chosen experts, one addition after the other."""
    nb = result.nb
    parts = [build.expand(g.view(result, (result.ne[0], tokens), (nb[2],))) for _ in range(used)]
    total = parts[0]
    for part in parts[1:]:
        total = build.expand(g.binary("add", total, part))
    return g.cont(total) if used == 1 else total
