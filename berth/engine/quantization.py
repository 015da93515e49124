"""Which type each tensor gets in each kind of file, by the engine's own rules.

F16, BF16 and F32 follow the converter; everything else follows the quantizer fed with an F16 or F32 file and
no importance matrix. One rule is of published files rather than of the pinned quantizer: a fused `attn_qkv`
has its own type in every layer, as quantizers wrote for years; the pinned one mixes as it does for `attn_v`.
`as_published=False` gives the pinned one's choice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING

from berth.engine.tensors import TYPES, Tensor
from berth.errors import UnknownQuantization

if TYPE_CHECKING:
    from collections.abc import Iterable

    from berth.engine.hyperparameters import Hyperparameters

FILE_TYPES: dict[str, str] = {
    "F32": "F32", "F16": "F16", "BF16": "BF16", "Q8_0": "Q8_0", "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K", "Q5_K_S": "Q5_K", "Q5_0": "Q5_0", "Q5_1": "Q5_1",
    "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K", "Q4_0": "Q4_0", "Q4_1": "Q4_1",
    "Q3_K_L": "Q3_K", "Q3_K_M": "Q3_K", "Q3_K_S": "Q3_K", "Q2_K": "Q2_K",
    "IQ4_XS": "IQ4_XS", "IQ4_NL": "IQ4_NL", "MXFP4_MOE": "MXFP4",
}  # fmt: skip
"""The kinds of files, each with the type that most of its tensors have."""

_FLOATS = ("F32", "F16", "BF16")
_FALLBACKS = {
    "IQ4_XS": "IQ4_NL", "IQ3_S": "IQ4_NL", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}  # fmt: skip
_KEPT = (
    "_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "per_layer_model_proj", "ssm_conv1d",
    "shortconv.conv.weight",
)  # fmt: skip
_KEPT_NAMES = frozenset({"position_embd.weight", "token_types.weight"})
_FLOAT32 = ("ffn_gate_inp", "ssm_conv1d", "shortconv.conv.weight")
_BITS_FIVE_OUTPUT = frozenset({
    "Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ4_XS",
})  # fmt: skip


class Kind(Enum):
    """What a tensor is for, as far as the rules care."""

    OUTPUT = auto()
    EMBEDDING = auto()
    FUSED = auto()
    VALUE = auto()
    KEY = auto()
    ATTENTION_OUTPUT = auto()
    DOWN = auto()
    OTHER = auto()


_KINDS = (
    ("attn_qkv.weight", Kind.FUSED),
    ("attn_kv_b.weight", Kind.VALUE),
    ("attn_v.weight", Kind.VALUE),
    ("attn_k.weight", Kind.KEY),
    ("attn_q.weight", Kind.OTHER),
    ("attn_output.weight", Kind.ATTENTION_OUTPUT),
    ("ffn_up", Kind.OTHER),
    ("ffn_gate", Kind.OTHER),
    ("ffn_down", Kind.DOWN),
)


@lru_cache(maxsize=4096)
def kind_of(name: str) -> Kind:
    """The kind of a tensor, by its name; a layer's prefix may be left out."""
    if name == "output.weight":
        return Kind.OUTPUT
    if name in ("token_embd.weight", "per_layer_token_embd.weight"):
        return Kind.EMBEDDING
    for part, kind in _KINDS:
        if part in name:
            return kind
    return Kind.OTHER


@lru_cache(maxsize=4096)
def source_type(name: str, shape: tuple[int, ...], float_type: str) -> str:
    """The type that the converter writes."""
    if len(shape) <= 1 or name.endswith("_norm.weight") or not name.endswith(".weight"):
        return "F32"
    if name in _KEPT_NAMES or any(part in name for part in _FLOAT32):
        return "F32"
    return float_type


@lru_cache(maxsize=4096)
def quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the quantizer touches a tensor at all: matrices that are neither norms, routers nor small."""
    if len(shape) < 2 or (shape[-1] == 1 and all(entry == 1 for entry in shape[1:])):
        return False
    if not name.endswith("weight") or name in _KEPT_NAMES:
        return False
    return not any(part in name for part in _KEPT)


def choose(
    numbers: Hyperparameters,
    rows: Iterable[tuple[str, tuple[int, ...]]],
    file_type: str,
    *,
    as_published: bool = True,
) -> tuple[Tensor, ...]:
    """Give every tensor of a table its type in a kind of file.

    Raises:
        UnknownQuantization: there is no such kind of file, or not of this model.
    """
    if file_type not in FILE_TYPES:
        raise UnknownQuantization(f"unknown quantization {file_type!r}; there are: {', '.join(FILE_TYPES)}")
    if numbers.architecture == "gpt-oss" and file_type != "MXFP4_MOE":
        raise UnknownQuantization("gpt-oss was trained in MXFP4 and is published as MXFP4_MOE only")
    if file_type in _FLOATS:
        return tuple(Tensor(name, shape, source_type(_part(name), shape, file_type)) for name, shape in rows)
    parts = [(_part(name), name, shape) for name, shape in rows]
    kinds = Counter(kind_of(part) for part, _, _ in parts)
    rules = _Rules(
        numbers,
        file_type,
        as_published,
        tied=kinds[Kind.OUTPUT] == 0,
        values=kinds[Kind.VALUE] + kinds[Kind.FUSED],
    )
    chosen = []
    for part, name, shape in parts:
        if quantizable(part, shape):
            chosen.append(Tensor(name, shape, _fitting(rules.type_of(name, part, shape), shape[0])))
        else:
            chosen.append(Tensor(name, shape, source_type(part, shape, "F16")))
    return tuple(chosen)


def _part(name: str) -> str:
    """A tensor's name without the prefix of its layer."""
    return name.split(".", 2)[2] if name.startswith("blk.") else name


def _fitting(kind: str, row: int) -> str:
    """The type, or what the quantizer falls back to where rows are no whole blocks of it."""
    if row % TYPES[kind][1]:
        kind = _FALLBACKS.get(kind, kind)
        if row % TYPES[kind][1]:
            return "F16"
    return kind


def _more_bits(index: int, count: int) -> bool:
    """The first and last eighth, and every third between, deserve more bits."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2


@dataclass
class _Rules:
    """The quantizer's state while it goes through a file."""

    numbers: Hyperparameters
    file_type: str
    as_published: bool
    tied: bool
    values: int
    values_seen: int = 0
    downs_seen: int = 0
    grouped: int = field(init=False)
    falcon: bool = field(init=False)
    eight: bool = field(init=False)

    def __post_init__(self) -> None:
        numbers = self.numbers
        self.grouped = numbers.heads[0] // numbers.kv_heads[0] if numbers.kv_heads[0] else 0
        self.falcon = numbers.architecture == "falcon"
        self.eight = numbers.experts == 8

    def type_of(self, name: str, part: str, shape: tuple[int, ...]) -> str:
        """The type of the next tensor; those of a file come layer by layer, as its table has them."""
        base = FILE_TYPES[self.file_type]
        kind = kind_of(part)
        if kind is Kind.OUTPUT or (self.tied and kind is Kind.EMBEDDING):
            return self._output(base, shape)
        if self.file_type == "MXFP4_MOE":
            return "MXFP4" if len(shape) > 2 and shape[2] > 1 else "Q8_0"
        if kind is Kind.FUSED and self.as_published:
            return self._fused(base)
        if kind in (Kind.VALUE, Kind.FUSED):
            return self._value(base)
        if kind is Kind.KEY:
            return "Q8_0" if self.eight else base
        if kind is Kind.DOWN:
            return self._down(base, name)
        if kind is Kind.ATTENTION_OUTPUT:
            return self._attention_output(base)
        return base

    def _output(self, base: str, shape: tuple[int, ...]) -> str:
        if self.file_type == "MXFP4_MOE" or self.falcon or shape[0] % TYPES[base][1] or base == "Q8_0":
            return "Q8_0"
        return "Q6_K"

    def _fused(self, base: str) -> str:
        chosen = {"Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}
        return chosen.get(self.file_type, base)

    def _value(self, base: str) -> str:
        index, file_type = self.values_seen, self.file_type
        self.values_seen += 1
        chosen = base
        if file_type == "Q2_K":
            chosen = "Q4_K" if self.grouped >= 4 else "Q3_K"
        elif file_type == "Q3_K_M":
            chosen = "Q5_K" if index < 2 else "Q4_K"
        elif file_type == "Q3_K_L" or (
            (file_type in ("IQ4_NL", "IQ4_XS") and self.grouped >= 4) or (file_type == "Q4_K_S" and index < 4)
        ):
            chosen = "Q5_K"
        elif file_type in ("Q4_K_M", "Q5_K_M") and _more_bits(index, self.values):
            chosen = "Q6_K"
        if chosen in ("Q3_K", "Q4_K") and self._seventy():
            chosen = "Q5_K"
        return "Q8_0" if self.eight else chosen

    def _seventy(self) -> bool:
        """Whether the engine knows the model as one of the 70B, by its architecture and layers."""
        numbers = self.numbers
        if numbers.main_layers != 80 or self.eight:
            return False
        return numbers.architecture == "qwen2" or (
            numbers.architecture == "llama" and numbers.heads[0] != numbers.kv_heads[0]
        )

    def _down(self, base: str, name: str) -> str:
        index, count, file_type = self.downs_seen, self.numbers.layers, self.file_type
        self.downs_seen += 1
        if self.numbers.experts > 1:
            index = int(name[4:].partition(".")[0])
        more = _more_bits(index, count)
        if file_type == "Q2_K":
            return "Q3_K"
        if file_type == "Q3_K_M":
            if index < count // 16:
                return "Q5_K"
            return "Q4_K" if more or not self.falcon else "Q3_K"
        if file_type == "Q3_K_L":
            return "Q4_K" if self.falcon else "Q5_K"
        if file_type == "Q4_K_M" and self.falcon:
            return "Q6_K" if index < count // 16 else "Q5_K" if more else "Q4_K"
        if file_type in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if more else base
        early = index < count // 8
        if early and (file_type in ("IQ4_NL", "IQ4_XS") or (file_type == "Q4_K_S" and not self.falcon)):
            return "Q5_K"
        return base

    def _attention_output(self, base: str) -> str:
        file_type = self.file_type
        if self.falcon:
            return "Q4_K" if file_type == "Q3_K_L" else base
        if self.eight:
            return "Q5_K" if file_type in _BITS_FIVE_OUTPUT else base
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(file_type, base)


__all__ = ["FILE_TYPES", "choose", "kind_of", "quantizable", "source_type"]
