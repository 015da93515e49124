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
SOUNDS = {
    "clip.has_audio_encoder": True,
    "clip.projector_type": "",
    "clip.vision.projector_type": "gemma4uv",
    "clip.audio.projector_type": "gemma4ua",
    "clip.audio.embedding_length": 640,
    "clip.audio.feed_forward_length": 0,
    "clip.audio.block_count": 0,
    "clip.audio.attention.head_count": 0,
    "clip.audio.attention.layer_norm_epsilon": 1e-6,
    "clip.audio.num_mel_bins": 128,
    "clip.audio.projection_dim": TEXT_WIDTH,
}
"""Of the one type whose files are for sounds as well."""
SILU = {"clip.use_gelu": False, "clip.use_silu": True}
SPECIAL = (
    "\n", "\n\n", "<fake_token_around_image>", "<global-img>", "<start_of_image>", "<end_of_image>",
    "<|vision_start|>", "<|vision_end|>", "[IMG_END]", "<img>", "</img>", "<|image>", "<image|>",
    "<|im_start|>", "<|im_end|>", "<|media_start|>", "<|media_end|>",
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


def words(count: int = 0) -> dict[str, Any]:
    """A vocabulary of bytes and of what stands around images, filled up to a number of words."""
    known = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *SPECIAL]
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_CONTROL] * len(SPECIAL)]
    more = range(count - len(known))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*known, *(f"word{number}" for number in more)],
        "tokenizer.ggml.scores": [0.0] * (len(known) + len(more)),
        "tokenizer.ggml.token_type": array("i", [*kinds, *(_NORMAL for _ in more)]),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def write_text(path: Path, width: int = TEXT_WIDTH) -> Path:
    """Write a Llama of one layer that spells."""
    vocabulary = words()
    count = len(vocabulary["tokenizer.ggml.tokens"])
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
        **vocabulary,
    }
    return _write(
        path,
        metadata,
        {
            "token_embd.weight": (width, count),
            "output.weight": (width, count),
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
    deep: int = 0
    """Layers whose results follow that of the last in a token. A text model of the type adds them to its own
    layers' results; this one does not, so that all of them share its width."""


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
        "clip.vision.projection_dim": text_width // (1 + KINDS[name].deep),
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.use_gelu": True,
        **KINDS[name].numbers,
    }


def write(path: Path, name: str, text_width: int = TEXT_WIDTH) -> Path:
    """Write a projector of a type, by the engine's name of it."""
    kind = KINDS[name]
    return _write(path, metadata(name, text_width), kind.tensors(text_width // (1 + kind.deep)))


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


def _layers(
    *, bias: bool = True, gated: bool = False, fused: bool = False, inner: int = INNER
) -> dict[str, tuple[int, ...]]:
    """The encoder's layers."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in range(LAYERS):
        own = f"v.blk.{layer}"
        parts = {"attn_qkv": 3 * WIDTH} if fused else dict.fromkeys(("attn_q", "attn_k", "attn_v"), WIDTH)
        for part, height in (parts | {"attn_out": WIDTH, "ffn_up": inner}).items():
            found |= _both(f"{own}.{part}", WIDTH, height)
        if gated:
            found |= _both(f"{own}.ffn_gate", WIDTH, inner)
        found |= _both(f"{own}.ffn_down", inner, WIDTH)
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


def _idefics3(text: int) -> dict[str, tuple[int, ...]]:
    return _siglip(16, 16 * 16) | {"mm.model.fc.weight": (16 * WIDTH, text)}


def _pixtral(text: int) -> dict[str, tuple[int, ...]]:
    return {
        "v.patch_embd.weight": (14, 14, 3, WIDTH),
        "v.pre_ln.weight": (WIDTH,),
        **_layers(bias=False, gated=True),
        "mm.input_norm.weight": (WIDTH,),
        "mm.patch_merger.weight": (4 * WIDTH, WIDTH),
        **_both("mm.1", WIDTH, text),
        **_both("mm.2", text, text),
        "v.token_embd.img_break": (text,),
    }


def _qwen(patch: int, text: int) -> dict[str, tuple[int, ...]]:
    return {
        "v.patch_embd.weight": (patch, patch, 3, WIDTH),
        "v.patch_embd.weight.1": (patch, patch, 3, WIDTH),
        **_both("mm.0", 4 * WIDTH, 4 * WIDTH),
        **_both("mm.2", 4 * WIDTH, text),
    }


def _qwen2vl(text: int) -> dict[str, tuple[int, ...]]:
    return _qwen(14, text) | _layers(inner=4 * WIDTH) | _norm("v.post_ln")


def _qwen25vl(text: int) -> dict[str, tuple[int, ...]]:
    found = _qwen(14, text) | _layers(gated=True) | _norm("v.post_ln", bias=False)
    return {name: shape for name, shape in found.items() if not name.endswith(("ln1.bias", "ln2.bias"))}


def _qwen3vl(text: int) -> dict[str, tuple[int, ...]]:
    deep = "v.deepstack.0"
    return {
        **_qwen(16, text),
        **_layers(fused=True),
        **_norm("v.post_ln"),
        "v.patch_embd.bias": (WIDTH,),
        "v.position_embd.weight": (WIDTH, 48 * 48),
        **_both(f"{deep}.fc1", 4 * WIDTH, 4 * WIDTH),
        **_both(f"{deep}.fc2", 4 * WIDTH, text),
        f"{deep}.norm.weight": (4 * WIDTH,),
        f"{deep}.norm.bias": (4 * WIDTH,),
    }


def _internvl(text: int) -> dict[str, tuple[int, ...]]:
    scales = {f"v.blk.{layer}.ls{part}.weight": (WIDTH,) for layer in range(LAYERS) for part in (1, 2)}
    return {
        "v.class_embd": (WIDTH,),
        "v.patch_embd.weight": (14, 14, 3, WIDTH),
        "v.patch_embd.bias": (WIDTH,),
        "v.position_embd.weight": (WIDTH, 16 * 16 + 1),
        **_layers(),
        **scales,
        "mm.model.mlp.0.weight": (4 * WIDTH,),
        "mm.model.mlp.0.bias": (4 * WIDTH,),
        **_both("mm.model.mlp.1", 4 * WIDTH, text),
        **_both("mm.model.mlp.3", text, text),
    }


def _llava(text: int) -> dict[str, tuple[int, ...]]:
    return {
        "v.class_embd": (WIDTH,),
        "v.patch_embd.weight": (14, 14, 3, WIDTH),
        "v.position_embd.weight": (WIDTH, 24 * 24 + 1),
        **_norm("v.pre_ln"),
        **_layers(),
        **_both("mm.0", WIDTH, text),
        **_both("mm.2", text, text),
    }


def _gemma4v(text: int) -> dict[str, tuple[int, ...]]:
    more = {
        f"v.blk.{layer}.{part}.weight": (WIDTH,)
        for layer in range(LAYERS)
        for part in ("attn_post_norm", "ffn_post_norm")
    }
    heads = {
        f"v.blk.{layer}.attn_{part}_norm.weight": (WIDTH // HEADS,)
        for layer in range(LAYERS)
        for part in "qk"
    }
    return {
        "v.patch_embd.weight": (16, 16, 3, WIDTH),
        "v.position_embd.weight": (WIDTH, 1024, 2),
        **_layers(bias=False, gated=True),
        **more,
        **heads,
        "v.std_bias": (WIDTH,),
        "v.std_scale": (WIDTH,),
        "mm.input_projection.weight": (WIDTH, text),
    }


def _gemma4uv(text: int) -> dict[str, tuple[int, ...]]:
    length = 3 * 48 * 48
    norms = {
        f"v.patch_norm.{number}.{part}": (wide,)
        for number, wide in ((1, length), (2, WIDTH), (3, WIDTH))
        for part in ("weight", "bias")
    }
    return {
        "v.patch_embd.weight": (length, WIDTH),
        "v.patch_embd.bias": (WIDTH,),
        "v.position_embd.weight": (WIDTH, 1200, 2),
        **norms,
        "mm.input_projection.weight": (WIDTH, text),
        "mm.a.input_projection.weight": (640, text),
    }


def _kimivl(text: int) -> dict[str, tuple[int, ...]]:
    return _siglip(14, 64 * 64) | {
        "mm.input_norm.weight": (WIDTH,),
        "mm.input_norm.bias": (WIDTH,),
        **_both("mm.1", 4 * WIDTH, 4 * WIDTH),
        **_both("mm.2", 4 * WIDTH, text),
    }


def _llama4(text: int) -> dict[str, tuple[int, ...]]:
    return {
        "v.class_embd": (WIDTH,),
        "v.patch_embd.weight": (3 * 14 * 14, WIDTH),
        "v.position_embd.weight": (WIDTH, 24 * 24 + 1),
        **_norm("v.pre_ln"),
        **_norm("v.post_ln"),
        **_layers(),
        "mm.model.mlp.1.weight": (4 * WIDTH, INNER),
        "mm.model.mlp.2.weight": (INNER, INNER),
        "mm.model.fc.weight": (INNER, text),
    }


def _numbers(image: int, patch: int, **more: Any) -> dict[str, Any]:
    found = {"image_size": image, "patch_size": patch, **more}
    return {f"clip.vision.{key.replace('__', '.')}": value for key, value in found.items()}


KINDS: dict[str, Kind] = {
    "gemma3": Kind(_numbers(448, 14), _gemma3),
    "gemma4v": Kind(_numbers(224, 16), _gemma4v),
    "gemma4uv": Kind(
        _numbers(224, 16, block_count=0, attention__head_count=0, feed_forward_length=0) | SOUNDS, _gemma4uv
    ),
    "idefics3": Kind(_numbers(256, 16, preproc_image_size=768, projector__scale_factor=4), _idefics3),
    "internvl": Kind(_numbers(224, 14, projector__scale_factor=2, preproc_max_tiles=6), _internvl),
    "kimivl": Kind(_numbers(896, 14, projector__scale_factor=2), _kimivl),
    "llama4": Kind(_numbers(336, 14, projector__scale_factor=2), _llama4),
    "mlp": Kind(_numbers(336, 14), _llava),
    "pixtral": Kind(_numbers(1540, 14, spatial_merge_size=2) | SILU, _pixtral),
    "qwen2vl_merger": Kind(_numbers(560, 14), _qwen2vl),
    "qwen2.5vl_merger": Kind(_numbers(560, 14, n_wa_pattern=2, window_size=112) | SILU, _qwen25vl),
    "qwen3vl_merger": Kind(_numbers(768, 16, is_deepstack_layers=[True, False]), _qwen3vl, deep=1),
}
"""By the engine's name of the type."""
