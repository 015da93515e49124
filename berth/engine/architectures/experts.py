"""Mixtures of experts, multi-head latent attention, and Gemma 4."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from berth.engine.architectures.table import Table


def qwen2moe(table: Table) -> None:
    """Qwen 1.5 and 2 MoE: routed experts and a gated shared one."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at, bias=True)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        shared_and_routed(table, layer, at)


def shared_and_routed(table: Table, layer: int, at: str) -> None:
    """Routed experts beside a shared one with a gate of its own, as in Qwen's mixtures."""
    numbers = table.numbers
    used = max(numbers.experts_used[layer], 1)
    table.experts(at, numbers.expert_feed_forward[layer] or numbers.feed_forward[layer] // used)
    table.add(f"{at}ffn_gate_inp_shexp.weight", numbers.embedding)
    table.gated(at, numbers.shared_feed_forward or numbers.feed_forward[layer], "_shexp")


def qwen3moe(table: Table) -> None:
    """Qwen 3 MoE: norms on queries and keys, no shared expert."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        used = max(numbers.experts_used[layer], 1)
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at)
        table.norm(f"{at}attn_k_norm", numbers.key_length)
        table.norm(f"{at}attn_q_norm", numbers.key_length)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        table.experts(at, numbers.expert_feed_forward[layer] or numbers.feed_forward[layer] // used)


def gpt_oss(table: Table) -> None:
    """gpt-oss: attention sinks, and biases on experts too."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.norm(f"{at}post_attention_norm", numbers.embedding)
        table.attention(layer, at, bias=True, out_bias=True)
        table.add(f"{at}attn_sinks.weight", numbers.heads[layer])
        table.experts(at, numbers.expert_feed_forward[layer], bias=True)


def deepseek2(table: Table) -> None:
    """DeepSeek V2, V3 and R1, and what shares their latent attention; keys and values are split per head."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.output()
    rope = numbers.rope_dimensions
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        heads = numbers.heads[layer]
        key = numbers.key_length_mla or numbers.key_length
        value = numbers.value_length_mla or numbers.value_length
        table.norm(f"{at}attn_norm", width)
        if numbers.q_lora_rank:
            table.norm(f"{at}attn_q_a_norm", numbers.q_lora_rank)
            table.linear(f"{at}attn_q_a", width, numbers.q_lora_rank)
            table.linear(f"{at}attn_q_b", numbers.q_lora_rank, heads * key)
        else:
            table.linear(f"{at}attn_q", width, heads * key)
        table.norm(f"{at}attn_kv_a_norm", numbers.kv_lora_rank)
        table.linear(f"{at}attn_kv_a_mqa", width, numbers.kv_lora_rank + rope)
        if numbers.mla:
            table.add(f"{at}attn_k_b.weight", key - rope, numbers.kv_lora_rank, heads)
            table.add(f"{at}attn_v_b.weight", numbers.kv_lora_rank, value, heads)
        else:
            table.linear(f"{at}attn_kv_b", numbers.kv_lora_rank, heads * (key - rope + value))
        table.linear(f"{at}attn_output", heads * value, width)
        table.norm(f"{at}ffn_norm", width)
        led_by_dense(table, layer, at)


def led_by_dense(table: Table, layer: int, at: str) -> None:
    """Dense networks in the first layers, then experts with shared ones beside them."""
    numbers = table.numbers
    if layer < numbers.leading_dense:
        table.gated(at, numbers.feed_forward[layer])
        return
    used = max(numbers.experts_used[layer], 1)
    hidden = numbers.expert_feed_forward[layer] or numbers.feed_forward[layer] // used
    table.experts(at, hidden)
    if table.has("expert_bias"):
        table.add(f"{at}exp_probs_b.bias", numbers.experts)
    if numbers.shared_experts:
        table.gated(at, hidden * numbers.shared_experts, "_shexp")


def glm4moe(table: Table) -> None:
    """GLM 4.5 and later: as DeepSeek's mixture, with plain attention."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at)
        if table.has("qk_norm"):
            table.norm(f"{at}attn_q_norm", numbers.key_length)
            table.norm(f"{at}attn_k_norm", numbers.key_length)
        table.norm(f"{at}post_attention_norm", numbers.embedding)
        led_by_dense(table, layer, at)


def minimax_m2(table: Table) -> None:
    """MiniMax M2: norms over all queries and keys, a corrected router."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.attention(layer, at)
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.norm(f"{at}attn_q_norm", numbers.key_length * numbers.heads[layer])
        table.norm(f"{at}attn_k_norm", numbers.key_width(layer))
        table.norm(f"{at}ffn_norm", numbers.embedding)
        table.experts(at, numbers.feed_forward[layer])
        table.add(f"{at}exp_probs_b.bias", numbers.experts)


def olmoe(table: Table) -> None:
    """OLMoE: norms over all queries and keys."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at)
        table.norm(f"{at}attn_q_norm", numbers.embedding)
        table.norm(f"{at}attn_k_norm", numbers.embedding)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        table.experts(at, numbers.feed_forward[layer])


def phimoe(table: Table) -> None:
    """Phi 3.5 MoE: norms with biases."""
    numbers = table.numbers
    table.embedding()
    table.output(norm_bias=True)
    if "output_bias" not in table.features:
        table.add("output.bias", numbers.vocabulary)
    table.rope(numbers.embedding // numbers.heads[0] // 2)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding, bias=True)
        table.attention(layer, at, bias=True, out_bias=True)
        table.norm(f"{at}ffn_norm", numbers.embedding, bias=True)
        table.experts(at, numbers.feed_forward[layer])


def gemma4(table: Table) -> None:
    """Gemma 4: two head lengths, shared caches, embeddings per layer in the small ones, experts in one."""
    numbers = table.numbers
    width, per_layer = numbers.embedding, numbers.embedding_per_layer
    table.embedding()
    table.output(tied=True)
    if per_layer:
        table.add("per_layer_token_embd.weight", per_layer * numbers.main_layers, numbers.vocabulary)
        table.add("per_layer_model_proj.weight", width, per_layer * numbers.main_layers)
        table.add("per_layer_proj_norm.weight", per_layer)
    table.add("rope_freqs.weight", numbers.key_length // 2)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        head, heads = numbers.key_head(layer), numbers.heads[layer]
        table.norm(f"{at}attn_norm", width)
        table.linear(f"{at}attn_q", width, head * heads)
        table.norm(f"{at}attn_q_norm", head)
        if numbers.has_kv(layer):
            table.linear(f"{at}attn_k", width, numbers.key_width(layer))
            table.norm(f"{at}attn_k_norm", head)
            if numbers.windowed[layer] or not table.has("shared_values"):
                table.linear(f"{at}attn_v", width, numbers.value_width(layer))
        table.linear(f"{at}attn_output", head * heads, width)
        table.norm(f"{at}post_attention_norm", width)
        if table.has("layer_scale", True):
            table.add(f"{at}layer_output_scale.weight", 1)
        table.norm(f"{at}ffn_norm", width)
        table.gated(at, numbers.feed_forward[layer])
        table.norm(f"{at}post_ffw_norm", width)
        if numbers.experts:
            table.add(f"{at}ffn_gate_inp.scale", width)
            for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
                table.norm(f"{at}{name}", width)
            table.experts(at, numbers.expert_feed_forward[layer])
            table.add(f"{at}ffn_down_exps.scale", numbers.experts)
        if per_layer:
            table.linear(f"{at}inp_gate", width, per_layer)
            table.linear(f"{at}proj", per_layer, width)
            table.norm(f"{at}post_norm", width)
