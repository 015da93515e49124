"""What llama-server is started with, as far as memory depends on it, and what the engine makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

PADDING = 256
"""Contexts are padded to multiples of it."""
LARGEST_PARALLEL = 256

CACHE_TYPES = {
    "f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q5_1": "Q5_1", "q5_0": "Q5_0",
    "q4_1": "Q4_1", "q4_0": "Q4_0", "iq4_nl": "IQ4_NL",
}  # fmt: skip
"""llama-server's names of cache types and ggml's."""
QUANTIZED = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"})


class Images(NamedTuple):
    """What taking images takes beside the model, in bytes: weights and compute buffer on the first GPU."""

    weights: int
    compute: int
    host: int
    tokens: int = 0
    """Of a slot's context, for the largest image."""
    at_once: int = 0
    """Tokens that the text model must be able to compute at once; 0 where it reads images in parts."""
    request: int = 0
    """Of the host's memory for the images of each request that is read at once, scaled for the projector."""


@dataclass(frozen=True)
class Settings:
    """The settings of one server; the names are llama-server's flags.

    `context` is the total over all slots (`-c`), `gpus` the number of devices with layers; none is the CPU
    alone. An empty `tensor_split` is an equal one.
    """

    context: int
    parallel: int = 1
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: bool = True
    kv_unified: bool = False
    ubatch: int = 512
    batch: int = 2048
    embeddings: bool = False
    gpus: int = 1
    tensor_split: tuple[int, ...] = ()
    outputs: int = 0
    """Tokens of a batch whose results are wanted; 0 for what llama-server asks for."""
    adapters: tuple[int, ...] = ()
    """Bytes of each LoRA adapter."""
    images: Images | None = None


def padded(value: int, to: int = PADDING) -> int:
    """The next multiple of `to`."""
    return -(-value // to) * to


@dataclass(frozen=True)
class Batch:
    """The engine's own numbers, which follow from settings and model."""

    settings: Settings
    causal: bool

    @cached_property
    def context(self) -> int:
        """Tokens of all slots, padded."""
        if self.settings.kv_unified:
            return padded(self.settings.context)
        return self.slot_context * self.settings.parallel

    @cached_property
    def slot_context(self) -> int:
        """Tokens that one slot may hold."""
        if self.settings.kv_unified:
            return padded(self.settings.context)
        return padded(padded(self.settings.context) // self.settings.parallel)

    @cached_property
    def batch(self) -> int:
        """Tokens of a logical batch."""
        given = self.settings.batch
        return min(self.settings.context, given) if self.causal else given

    @cached_property
    def ubatch(self) -> int:
        """Tokens that are computed at once at most."""
        return min(self.batch, self.settings.ubatch)

    @cached_property
    def slots(self) -> int:
        return self.settings.parallel

    @cached_property
    def streams(self) -> int:
        """Separate parts of the cache."""
        return 1 if self.settings.kv_unified else self.settings.parallel

    @cached_property
    def tokens(self) -> int:
        """Tokens of the largest graph: as many for each slot."""
        return padded(self._wanted, self.slots)

    @cached_property
    def _wanted(self) -> int:
        return min(self.context, self.ubatch)

    @cached_property
    def outputs(self) -> int:
        """Tokens of the largest graph whose results are wanted."""
        usual = self.batch if self.settings.embeddings else self.settings.parallel
        return min(self._wanted, self.settings.outputs or usual)

    @cached_property
    def tokens_per_slot(self) -> int:
        return self.tokens // self.slots

    @property
    def key_type(self) -> str:
        return CACHE_TYPES[self.settings.cache_type_k]

    @property
    def value_type(self) -> str:
        return CACHE_TYPES[self.settings.cache_type_v]
