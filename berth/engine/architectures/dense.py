"""Dense decoders, and those whose layers differ from them only in the feed-forward network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from berth.engine.architectures.table import Table


def llama(table: Table) -> None:
    """Llama, Mistral, Mixtral, Granite: experts where the model has them, a shared one in Granite MoE."""
    numbers = table.numbers
    table.embedding()
    table.output()
    table.rope()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        if numbers.experts == 0:
            table.gated(at, numbers.feed_forward[layer])
            continue
        table.experts(at, numbers.feed_forward[layer])
        if numbers.shared_feed_forward:
            table.gated(at, numbers.shared_feed_forward, "_shexp")


def falcon(table: Table) -> None:
    """Falcon: fused projections, and a second norm in the large ones."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.output(norm_bias=True)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", width, bias=True)
        if table.has("attention_norm_2"):
            table.norm(f"{at}attn_norm_2", width, bias=True)
        table.linear(f"{at}attn_qkv", width, width + 2 * numbers.value_width(layer))
        table.linear(f"{at}attn_output", width, width)
        table.plain(at, numbers.feed_forward[layer])


def phi2(table: Table) -> None:
    """Phi 1.5 and 2: biases everywhere."""
    numbers = table.numbers
    table.embedding()
    table.output(norm_bias=True)
    if "output_bias" not in table.features:
        table.add("output.bias", numbers.vocabulary)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding, bias=True)
        table.attention(layer, at, bias=True, out_bias=True)
        table.plain(at, numbers.feed_forward[layer], bias=True)


def phi3(table: Table) -> None:
    """Phi 3, 3.5 and 4: fused projections, and gate and up in one tensor."""
    numbers = table.numbers
    table.embedding()
    table.output()
    table.rope()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at, fused=True)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        table.plain(at, numbers.feed_forward[layer], up=2 * numbers.feed_forward[layer])


def qwen2(table: Table) -> None:
    """Qwen 1.5, 2 and 2.5: biases on the projections."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at, bias=True)
        table.norm(f"{at}ffn_norm", numbers.embedding)
        table.gated(at, numbers.feed_forward[layer])


def qwen3(table: Table) -> None:
    """Qwen 3, its vision models' language part, and its rerankers: norms on queries and keys."""
    numbers = table.numbers
    table.embedding()
    table.output()
    table.classifier()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.attention(layer, at)
        table.norm(f"{at}attn_k_norm", numbers.key_head(layer))
        table.norm(f"{at}attn_q_norm", numbers.key_head(layer))
        table.norm(f"{at}ffn_norm", numbers.embedding)
        table.gated(at, numbers.feed_forward[layer])


def gemma(table: Table) -> None:
    """Gemma 1, 2 and 3 and EmbeddingGemma: always tied; norms behind attention and network from 2 on."""
    numbers = table.numbers
    width = numbers.embedding
    third = numbers.architecture in ("gemma3", "gemma-embedding")
    table.embedding()
    table.output(tied=True)
    if table.has("dense_projections"):
        table.add("dense_2.weight", width, 4 * width)
        table.add("dense_3.weight", 4 * width, width)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", width)
        table.attention(layer, at)
        if third:
            table.norm(f"{at}attn_k_norm", numbers.key_head(layer))
            table.norm(f"{at}attn_q_norm", numbers.key_head(layer))
        if numbers.architecture != "gemma":
            table.norm(f"{at}post_attention_norm", width)
            table.norm(f"{at}post_ffw_norm", width)
        table.norm(f"{at}ffn_norm", width)
        table.gated(at, numbers.feed_forward[layer])


def olmo2(table: Table) -> None:
    """OLMo 2 and 3: norms behind attention and network, and over all queries and keys."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.attention(layer, at)
        table.norm(f"{at}attn_q_norm", width)
        table.norm(f"{at}attn_k_norm", numbers.kv_heads[layer] * (width // numbers.heads[layer]))
        table.norm(f"{at}post_attention_norm", width)
        table.gated(at, numbers.feed_forward[layer])
        table.norm(f"{at}post_ffw_norm", width)


def cohere(table: Table) -> None:
    """Command R and Command R7B: one norm a layer, always tied; norms on queries and keys in the largest."""
    numbers = table.numbers
    table.embedding()
    table.output(tied=True)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding)
        if numbers.architecture == "command-r" and numbers.main_layers >= 64:
            table.add(f"{at}attn_q_norm.weight", numbers.key_length, numbers.heads[layer])
            table.add(f"{at}attn_k_norm.weight", numbers.key_length, numbers.kv_heads[layer])
        table.attention(layer, at)
        table.gated(at, numbers.feed_forward[layer])


def starcoder2(table: Table) -> None:
    """StarCoder 2: biases everywhere, no gate."""
    numbers = table.numbers
    table.embedding()
    table.output(norm_bias=True)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding, bias=True)
        table.attention(layer, at, bias=True, out_bias=True)
        table.norm(f"{at}ffn_norm", numbers.embedding, bias=True)
        table.plain(at, numbers.feed_forward[layer], bias=True)


def glm4(table: Table) -> None:
    """GLM 4: gate and up in one tensor, norms behind attention and network."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", width)
        table.attention(layer, at)
        table.norm(f"{at}post_attention_norm", width)
        table.norm(f"{at}ffn_norm", width)
        table.plain(at, numbers.feed_forward[layer], up=2 * numbers.feed_forward[layer])
        table.norm(f"{at}post_ffw_norm", width)


def stablelm(table: Table) -> None:
    """StableLM 2: norms with biases; norms per head in the 12B, which has no ffn_norm."""
    numbers = table.numbers
    table.embedding()
    table.output(norm_bias=True)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.norm(f"{at}attn_norm", numbers.embedding, bias=True)
        table.attention(layer, at)
        if table.has("qk_norm"):
            table.add(f"{at}attn_q_norm.weight", numbers.key_length, numbers.heads[layer])
            table.add(f"{at}attn_k_norm.weight", numbers.key_length, numbers.kv_heads[layer])
        if table.has("ffn_norm", True):
            table.norm(f"{at}ffn_norm", numbers.embedding, bias=True)
        table.gated(at, numbers.feed_forward[layer])


def seed_oss(table: Table) -> None:
    """Seed-OSS: the norm before the network is called post_attention_norm."""
    numbers = table.numbers
    table.embedding()
    table.output()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.attention(layer, at, bias=True)
        table.norm(f"{at}attn_norm", numbers.embedding)
        table.norm(f"{at}post_attention_norm", numbers.embedding)
        table.gated(at, numbers.feed_forward[layer])


def exaone4(table: Table) -> None:
    """EXAONE 4: norms behind attention and network, and on queries and keys."""
    numbers = table.numbers
    table.embedding()
    table.output()
    table.rope()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.attention(layer, at)
        table.norm(f"{at}post_attention_norm", numbers.embedding)
        table.norm(f"{at}attn_q_norm", numbers.key_length)
        table.norm(f"{at}attn_k_norm", numbers.key_length)
        table.gated(at, numbers.feed_forward[layer])
        table.norm(f"{at}post_ffw_norm", numbers.embedding)
