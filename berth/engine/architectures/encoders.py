"""Encoders: embedding models and rerankers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from berth.engine.architectures.table import Table


def bert(table: Table) -> None:
    """BERT and XLM-RoBERTa: learned positions, biases everywhere; a pooler and a score in rerankers."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.add("position_embd.weight", width, numbers.trained_context)
    _start(table)
    table.classifier()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.attention(layer, at, bias=True, out_bias=True)
        table.norm(f"{at}attn_output_norm", width, bias=True)
        table.plain(at, numbers.feed_forward[layer], bias=True)
        table.norm(f"{at}layer_output_norm", width, bias=True)


def nomic_bert(table: Table) -> None:
    """Nomic Embed: rotary positions, fused projections, a gate, no biases."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    _start(table)
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        table.attention(layer, at, fused=True)
        table.norm(f"{at}attn_output_norm", width, bias=True)
        table.gated(at, numbers.feed_forward[layer])
        table.norm(f"{at}layer_output_norm", width, bias=True)


def modern_bert(table: Table) -> None:
    """ModernBERT: norms without biases, none before the first attention; gate and up in one tensor."""
    numbers = table.numbers
    width = numbers.embedding
    table.embedding()
    table.norm("token_embd_norm", width)
    table.norm("output_norm", width)
    table.classifier()
    for layer in range(numbers.main_layers):
        at = f"blk.{layer}."
        if layer:
            table.norm(f"{at}attn_norm", width)
        table.linear(f"{at}attn_qkv", width, 3 * width)
        table.linear(f"{at}attn_output", width, width)
        table.norm(f"{at}ffn_norm", width)
        table.plain(at, numbers.feed_forward[layer], up=2 * numbers.feed_forward[layer])


def _start(table: Table) -> None:
    """Token types and the norm of the embeddings."""
    width = table.numbers.embedding
    if table.has("token_types", True):
        table.add("token_types.weight", width, max(table.numbers.token_types, 1))
    table.norm("token_embd_norm", width, bias=True)
