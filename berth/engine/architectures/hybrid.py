"""Models whose layers partly keep a state of fixed size: Mamba 2, gated delta nets, short convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.architectures.experts import shared_and_routed

if TYPE_CHECKING:
    from berth.engine.architectures.table import Table


def mamba2_layer(table: Table, at: str) -> None:
    """The mixer of a Mamba 2 layer."""
    numbers = table.numbers
    inner, states = numbers.ssm_inner, numbers.ssm_groups * numbers.ssm_state
    conv = inner + 2 * states
    table.linear(f"{at}ssm_in", numbers.embedding, 2 * inner + 2 * states + numbers.ssm_rank)
    table.add(f"{at}ssm_conv1d.weight", numbers.ssm_conv, conv)
    if table.has("conv_bias", True):
        table.add(f"{at}ssm_conv1d.bias", conv)
    table.add(f"{at}ssm_dt.bias", numbers.ssm_rank)
    table.add(f"{at}ssm_a", 1, numbers.ssm_rank)
    table.add(f"{at}ssm_d", 1, numbers.ssm_rank)
    table.add(f"{at}ssm_norm.weight", inner // numbers.ssm_groups, numbers.ssm_groups)
    table.linear(f"{at}ssm_out", inner, numbers.embedding)


def granitehybrid(table: Table) -> None:
    """Granite 4 H: Mamba 2 layers with some attention, dense or with experts and a shared one."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        if numbers.recurrent[layer]:
            mamba2_layer(table, at)
        else:
            table.attention(layer, at)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        if numbers.experts == 0:
            table.gated(at, numbers.feed_forward[layer])
            continue
        table.experts(at, numbers.feed_forward[layer])
        if numbers.shared_feed_forward:
            table.gated(at, numbers.shared_feed_forward, "_shexp")


def nemotron_h(table: Table) -> None:
    """Nemotron H and Nemotron 3: each layer is a mixer, attention, or a network, never two of them."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        hidden = numbers.feed_forward[layer]
        table.norm(f"{at}attn_norm", numbers.embedding)
        if numbers.recurrent[layer]:
            mamba2_layer(table, at)
        elif hidden == 0:
            table.attention(layer, at)
        elif numbers.experts == 0:
            table.plain(at, hidden)
        else:
            _nemotron_experts(table, layer, at)


def _nemotron_experts(table: Table, layer: int, at: str) -> None:
    numbers = table.numbers
    width, latent = numbers.embedding, numbers.moe_latent
    used = max(numbers.experts_used[layer], 1)
    hidden = numbers.expert_feed_forward[layer] or numbers.feed_forward[layer] // used
    table.add(f"{at}exp_probs_b.bias", numbers.experts)
    if latent:
        table.linear(f"{at}ffn_latent_down", width, latent)
        table.linear(f"{at}ffn_latent_up", latent, width)
    table.experts(at, hidden, gate=False, width=latent)
    table.linear(f"{at}ffn_down_shexp", numbers.shared_feed_forward, width)
    table.linear(f"{at}ffn_up_shexp", width, numbers.shared_feed_forward)


def lfm2(table: Table) -> None:
    """LFM 2: short convolutions with some attention; experts behind dense layers in the mixtures."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.norm("token_embd_norm", width)
    if not table.has("tied", True):
        table.add("output.weight", width, numbers.vocabulary)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}ffn_norm", width)
        if numbers.architecture == "lfm2moe" and layer >= numbers.leading_dense:
            table.experts(at, numbers.expert_feed_forward[layer])
            table.add(f"{at}exp_probs_b.bias", numbers.experts)
        else:
            table.gated(at, numbers.feed_forward[layer])
        table.norm(f"{at}attn_norm", width)
        if numbers.recurrent[layer]:
            table.add(f"{at}shortconv.conv.weight", numbers.shortconv_cache, width)
            table.linear(f"{at}shortconv.in_proj", width, 3 * width)
            table.linear(f"{at}shortconv.out_proj", width, width)
        else:
            table.norm(f"{at}attn_q_norm", numbers.key_length)
            table.norm(f"{at}attn_k_norm", numbers.key_length)
            table.attention(layer, at)


def qwen35(table: Table) -> None:
    """Qwen 3.5 and Qwen 3 Next: gated delta nets, every few layers attention with a gate in its queries."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", width)
        table.norm(f"{at}post_attention_norm", width)
        if numbers.recurrent[layer]:
            _delta_net(table, at)
        else:
            query = numbers.key_length * numbers.heads[layer]
            table.qkv(at, 2 * query, numbers.key_width(layer), numbers.value_width(layer))
            table.linear(f"{at}attn_output", query, width)
            table.norm(f"{at}attn_q_norm", numbers.key_length)
            table.norm(f"{at}attn_k_norm", numbers.key_length)
        if numbers.experts:
            shared_and_routed(table, layer, at)
        else:
            table.gated(at, numbers.feed_forward[layer])


def _delta_net(table: Table, at: str) -> None:
    numbers = table.numbers
    width, head, heads = numbers.embedding, numbers.ssm_state, numbers.ssm_rank
    value = head * heads
    both = 2 * head * numbers.ssm_groups + value
    table.linear(f"{at}attn_qkv", width, both)
    table.linear(f"{at}attn_gate", width, value)
    table.add(f"{at}ssm_conv1d.weight", numbers.ssm_conv, both)
    table.add(f"{at}ssm_dt.bias", heads)
    table.add(f"{at}ssm_a", heads)
    if numbers.architecture == "qwen3next":
        table.linear(f"{at}ssm_ba", width, 2 * heads)
    else:
        table.linear(f"{at}ssm_beta", width, heads)
        table.linear(f"{at}ssm_alpha", width, heads)
    table.norm(f"{at}ssm_norm", head)
    table.linear(f"{at}ssm_out", value, width)
