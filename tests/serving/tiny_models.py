"""Encoders of a few kilobytes that the real engine serves: an embedding model and a reranker.

Their words are whole and their weights random but fixed: texts that share words come out close, which is all
that can be asked of a model that learned nothing.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

from berth.engine.tensors import Tensor
from tools import sparse_gguf

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["the", "sea", "ship", "harbour", "sails", "wind", "law", "tax", "court", "judge", "says", "of"]
WIDTH, INNER, CONTEXT = 32, 64, 64
MEAN, RANK = 1, 4
"""The engine's numbers of poolings."""
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write(path: Path, pooling: int) -> Path:
    """Write a BERT of one layer."""
    tokens = [*_SPECIAL, *(f"\u2581{word}" for word in WORDS)]
    metadata: dict[str, Any] = {
        "general.architecture": "bert",
        "general.name": path.stem,
        "bert.block_count": 1,
        "bert.context_length": CONTEXT,
        "bert.embedding_length": WIDTH,
        "bert.feed_forward_length": INNER,
        "bert.attention.head_count": 2,
        "bert.attention.layer_norm_epsilon": 1e-5,
        "bert.attention.causal": False,
        "bert.pooling_type": pooling,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.mask_token_id": 4,
    }
    tensors = [Tensor(name, shape, "F32") for name, shape in _shapes(len(tokens), pooling).items()]
    sparse_gguf.write(path, metadata, tensors)
    chance = random.Random(5)
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(size - sum(tensor.size for tensor in tensors))  # each size is a multiple of the alignment
        for tensor in tensors:
            count = tensor.size // 4
            stream.write(struct.pack(f"<{count}f", *_values(tensor.name, count, chance)))
    assert path.stat().st_size == size
    return path


def _values(name: str, count: int, chance: random.Random) -> list[float]:
    """A norm passes everything on; words are far apart, the rest disturbs little."""
    if "norm" in name:
        return [1.0 if name.endswith("weight") else 0.0] * count
    spread = 1.0 if name.startswith(("token_embd", "cls")) else 0.05
    return [chance.gauss(0, spread) for _ in range(count)]


def _shapes(words: int, pooling: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WIDTH, words),
        "token_types.weight": (WIDTH, 2),
        "position_embd.weight": (WIDTH, CONTEXT),
        "token_embd_norm.weight": (WIDTH,),
        "token_embd_norm.bias": (WIDTH,),
        **{f"blk.0.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_up.weight": (WIDTH, INNER),
        "blk.0.ffn_down.weight": (INNER, WIDTH),
    }
    for norm in ("attn_output_norm", "layer_output_norm"):
        found |= {f"blk.0.{norm}.weight": (WIDTH,), f"blk.0.{norm}.bias": (WIDTH,)}
    if pooling == RANK:
        found["cls.output.weight"] = (WIDTH, 1)
    return found
