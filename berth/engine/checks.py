"""Settings that the engine refuses, and those that it takes but that a person would not want."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graphs, kv
from berth.engine.devices import MOST_GPUS
from berth.engine.settings import CACHE_TYPES, LARGEST_PARALLEL, QUANTIZED, Batch
from berth.engine.tensors import TYPES
from berth.errors import InvalidSettings

if TYPE_CHECKING:
    from berth.engine.layouts import Layout
    from berth.engine.settings import Settings

LARGEST_CONTEXT = 2**31 - 1
_LARGEST_BATCH = 2**20
_FUSED_HEADS = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
"""Lengths of heads, the same for keys and values, that CUDA's flash attention knows."""
_GROUPED_HEADS = {(192, 128): 8, (320, 256): 32, (512, 512): 2, (576, 512): 2}
"""Lengths of keys and values that it knows where so many queries share a key: 2 for at least two, else a
multiple."""
_MEAN = 1
"""The number of mean pooling in a file."""
_NO_FUSED_TYPES = frozenset({"iq4_nl"})


def check_settings(layout: Layout, settings: Settings) -> list[str]:
    """What a person should know about settings that the engine accepts.

    Raises:
        UnknownArchitecture: there is no memory model of the architecture.
        InvalidSettings: the engine would not start, with the reason.
    """
    graphs.graph_of(layout.hyperparameters.architecture)
    _check_numbers(settings)
    _check_cache_types(layout, settings)
    _check_pooling(layout, settings)
    warnings: list[str] = []
    if settings.gpus and settings.flash_attention:
        warnings += _flash_attention(layout, settings)
    return warnings


def _check_numbers(settings: Settings) -> None:
    for name, value, most in (
        ("context", settings.context, LARGEST_CONTEXT),
        ("parallel", settings.parallel, LARGEST_PARALLEL),
        ("batch", settings.batch, _LARGEST_BATCH),
        ("ubatch", settings.ubatch, _LARGEST_BATCH),
    ):
        if not 1 <= value <= most:
            raise InvalidSettings(f"{name} is {value}; the engine takes 1 to {most}")
    if not 0 <= settings.gpus <= MOST_GPUS:
        raise InvalidSettings(f"{settings.gpus} GPUs: the engine uses at most {MOST_GPUS}")
    if settings.tensor_split and len(settings.tensor_split) != settings.gpus:
        raise InvalidSettings(
            f"the tensor split has {len(settings.tensor_split)} shares for {settings.gpus} GPUs"
        )
    if any(share < 0 for share in settings.tensor_split):
        raise InvalidSettings("a share of the tensor split is negative")
    if not settings.kv_unified and settings.context + 255 < settings.parallel:
        raise InvalidSettings(
            f"a context of {settings.context} tokens leaves nothing for each of {settings.parallel} slots"
        )


def _check_cache_types(layout: Layout, settings: Settings) -> None:
    numbers = layout.hyperparameters
    for kind in (settings.cache_type_k, settings.cache_type_v):
        if kind not in CACHE_TYPES:
            raise InvalidSettings(f"{kind!r} is no cache type; there are: {', '.join(CACHE_TYPES)}")
    if settings.cache_type_v in QUANTIZED and not settings.flash_attention:
        raise InvalidSettings(
            f"a {settings.cache_type_v} cache of values needs flash attention; the engine does not start "
            "without it"
        )
    if numbers.mla and settings.cache_type_k != settings.cache_type_v:
        raise InvalidSettings(
            f"{numbers.architecture} keeps keys and values as one, so their cache types must be equal, not "
            f"{settings.cache_type_k} and {settings.cache_type_v}"
        )
    for what, kind, head in (
        ("keys", settings.cache_type_k, numbers.key_head),
        ("values", settings.cache_type_v, numbers.value_head),
    ):
        block = TYPES[CACHE_TYPES[kind]][1]
        lengths = {head(layer) for layer in range(numbers.main_layers)}
        odd = sorted(length for length in lengths if length % block)
        if odd and settings.flash_attention:
            raise InvalidSettings(
                f"the model's heads of {odd[0]} {what} are no whole blocks of {block}, which {kind} needs"
            )
        width = numbers.key_width if what == "keys" else numbers.value_width
        for layer in range(numbers.main_layers):
            if kv.keeps_attention(numbers, layer) and width(layer) % block:
                raise InvalidSettings(
                    f"the model's {width(layer)} {what} per token are no whole blocks of {block}, "
                    f"which {kind} needs"
                )


def _check_pooling(layout: Layout, settings: Settings) -> None:
    numbers = layout.hyperparameters
    if not settings.embeddings or numbers.pooling != _MEAN:
        return
    batch = Batch(settings, numbers.causal)
    if batch.outputs != batch.tokens:
        raise InvalidSettings(
            f"{settings.parallel} slots do not share {batch.outputs} tokens of a batch evenly; the engine "
            "aborts where it takes the mean of a text's tokens"
        )


def flash_attention_on_cuda(layout: Layout, settings: Settings) -> str | None:
    """Why CUDA has no flash attention for a model with these cache types, None where it has.

    The engine would then compute attention on the host, or leave flash attention out where it may choose.
    """
    numbers = layout.hyperparameters
    for kind in sorted({settings.cache_type_k, settings.cache_type_v} & _NO_FUSED_TYPES):
        return f"CUDA has no flash attention for a {kind} cache"
    for layer in range(numbers.main_layers):
        if not numbers.heads[layer] or numbers.recurrent[layer] or not numbers.kv_heads[layer]:
            continue
        key, value = numbers.key_head(layer), numbers.value_head(layer)
        if key == value and key in _FUSED_HEADS:
            continue
        least = _GROUPED_HEADS.get((key, value))
        shared = numbers.heads[layer] // numbers.kv_heads[layer]
        if least is None or shared < least or (least > 2 and shared % least):
            return f"CUDA has no flash attention for heads of {key} (keys) and {value} (values)"
    return None


def _flash_attention(layout: Layout, settings: Settings) -> list[str]:
    reason = flash_attention_on_cuda(layout, settings)
    return [] if reason is None else [f"{reason}: attention would be computed on the host"]
