"""Projectors of a few megabytes with which the real engine takes images, and the text model beside them.

Each has its type's real tensors, few layers and narrow ones, with random but fixed weights: an answer means
nothing, but an image is read, scaled, cut, encoded and decoded as any other.
"""

from __future__ import annotations

import base64
import random
import struct
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.engine.tensors import Tensor
from tools import sparse_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT_WIDTH = 64
CONTEXT = 8192
WIDTH, INNER, HEADS, LAYERS = 128, 256, 2, 2
"""Of the encoder of every type."""
SPECIAL = (
    "\n", "\n\n", "<fake_token_around_image>", "<global-img>", "<start_of_image>", "<end_of_image>",
    "<|vision_start|>", "<|vision_end|>", "[IMG_END]", "<img>", "</img>", "<|image>", "<image|>",
    "<|im_start|>", "<|im_end|>",
)  # fmt: skip
"""What the engine writes around images, so that it finds them among the text model's words."""
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
"""The engine's numbers of kinds of words."""


def picture(width: int, height: int) -> bytes:
    """A PNG of a coloured gradient."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = bytes(value for x in range(width) for value in (x % 256, x * 3 % 256, 128))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * height, 1))
        + chunk(b"IEND", b"")
    )


def address(image: bytes) -> str:
    """An image as a `data:` address."""
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def write_text(path: Path, width: int = TEXT_WIDTH) -> Path:
    """Write a Llama of one layer that spells: its words are bytes and what stands around images."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *SPECIAL]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_CONTROL] * len(SPECIAL)]
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": path.stem,
        "llama.block_count": 1,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": width,
        "llama.feed_forward_length": 2 * width,
        "llama.attention.head_count": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": width // 2,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": [0.0] * len(words),
        "tokenizer.ggml.token_type": array("i", kinds),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }
    return _write(
        path,
        metadata,
        {
            "token_embd.weight": (width, len(words)),
            "output.weight": (width, len(words)),
            "output_norm.weight": (width,),
            **{f"blk.0.attn_{part}.weight": (width, width) for part in ("q", "k", "v", "output")},
            "blk.0.attn_norm.weight": (width,),
            "blk.0.ffn_norm.weight": (width,),
            "blk.0.ffn_gate.weight": (width, 2 * width),
            "blk.0.ffn_up.weight": (width, 2 * width),
            "blk.0.ffn_down.weight": (2 * width, width),
        },
    )


@dataclass(frozen=True)
class Kind:
    """A type of projector: numbers beyond those that all have, and the tensors."""

    numbers: dict[str, Any]
    tensors: Callable[[int], dict[str, tuple[int, ...]]]
    """Given the text model's width."""


def metadata(name: str, text_width: int = TEXT_WIDTH) -> dict[str, Any]:
    """The keys and values of a projector's file."""
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": name,
        "clip.has_vision_encoder": True,
        "clip.projector_type": name,
        "clip.vision.embedding_length": WIDTH,
        "clip.vision.feed_forward_length": INNER,
        "clip.vision.block_count": LAYERS,
        "clip.vision.attention.head_count": HEADS,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.projection_dim": text_width,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.use_gelu": True,
        **KINDS[name].numbers,
    }


def write(path: Path, name: str, text_width: int = TEXT_WIDTH) -> Path:
    """Write a projector of a type, by the engine's name of it."""
    return _write(path, metadata(name, text_width), KINDS[name].tensors(text_width))


def _write(path: Path, keys: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Path:
    tensors = [Tensor(name, shape, _type(name, shape)) for name, shape in shapes.items()]
    sparse_gguf.write(path, keys, tensors)
    chance = random.Random(7)
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size - sum(-(-tensor.size // 32) * 32 for tensor in tensors))
        for tensor in tensors:
            values = _values(tensor, chance)
            data = struct.pack(f"<{len(values)}{'e' if tensor.type == 'F16' else 'f'}", *values)
            stream.write(data + bytes(-len(data) % 32))
    return path


def _type(name: str, shape: tuple[int, ...]) -> str:
    """Matrices are of 16 bits, as the converter writes them; what is added or looked up is of 32."""
    matrix = len(shape) > 1 and name.endswith(("weight", "weight.1")) and "position_embd" not in name
    return "F16" if matrix else "F32"


def _values(tensor: Tensor, chance: random.Random) -> list[float]:
    """A norm passes everything on; the rest disturbs little."""
    if "norm" in tensor.name or ".ln" in tensor.name:
        return [1.0 if tensor.name.endswith("weight") else 0.0] * tensor.elements
    block = [chance.gauss(0, 0.05) for _ in range(min(tensor.elements, 4099))]
    return (block * -(-tensor.elements // len(block)))[: tensor.elements]


def _both(name: str, width: int, height: int) -> dict[str, tuple[int, ...]]:
    """A matrix and its bias."""
    return {f"{name}.weight": (width, height), f"{name}.bias": (height,)}


def _norm(name: str, bias: bool = True) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {f"{name}.weight": (WIDTH,)}
    return found | ({f"{name}.bias": (WIDTH,)} if bias else {})


def _layers(*, bias: bool = True, gated: bool = False, fused: bool = False) -> dict[str, tuple[int, ...]]:
    """The encoder's layers."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        own = f"v.blk.{layer}"
        parts = {"attn_qkv": 3 * WIDTH} if fused else dict.fromkeys(("attn_q", "attn_k", "attn_v"), WIDTH)
        for part, height in (parts | {"attn_out": WIDTH, "ffn_up": INNER}).items():
            found |= _both(f"{own}.{part}", WIDTH, height)
        if gated:
            found |= _both(f"{own}.ffn_gate", WIDTH, INNER)
        found |= _both(f"{own}.ffn_down", INNER, WIDTH)
        found |= _norm(f"{own}.ln1") | _norm(f"{own}.ln2")
    return found if bias else {name: shape for name, shape in found.items() if not name.endswith("bias")}


def _siglip(patch: int, positions: int) -> dict[str, tuple[int, ...]]:
    return {
        "v.patch_embd.weight": (patch, patch, 3, WIDTH),
        "v.patch_embd.bias": (WIDTH,),
        "v.position_embd.weight": (WIDTH, positions),
        **_norm("v.post_ln"),
        **_layers(),
    }


def _gemma3(text: int) -> dict[str, tuple[int, ...]]:
    return _siglip(14, 32 * 32) | {
        "mm.input_projection.weight": (text, WIDTH),
        "mm.soft_emb_norm.weight": (WIDTH,),
    }


KINDS: dict[str, Kind] = {
    "gemma3": Kind({"clip.vision.image_size": 448, "clip.vision.patch_size": 14}, _gemma3),
}
"""By the engine's name of the type."""
