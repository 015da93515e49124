"""What CUDA takes on a GPU on top of the engine's own buffers.

Exact where the engine's source tells: the 16-bit copies of one layer's keys and values that flash attention
works on where the cache is of another type, and the padding of quantized rows to 512 elements. Estimated, and
on the high side, where driver and libraries decide: the context of the process, cuBLAS' workspace and the
memory pool of matrix products.

Sources, read 2026-11-24: reported CUDA contexts of 107 MiB (RTX 4060 Ti) and 555 MiB (RTX PRO 6000) in
github.com/ggml-org/llama.cpp/issues/23604, 120 to 550 MiB in issues/20595, 451 to 456 MiB unaccounted on
RTX 4090 in issues/15860, 749 MiB on RTX PRO 6000 Max-Q in issues/27953, 309 MiB on RTX 3090 in
github.com/ollama/ollama/issues/6160. No report of a data centre GPU was found, so those take the largest
report of a generation near theirs. cuBLAS' default workspace, 32 MiB on compute capability 9.0 and 4 MiB
before it, is from docs.nvidia.com/cuda/cublas (cublasSetWorkspace).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from berth.engine import kv
from berth.engine.graph import row_bytes
from berth.engine.tensors import TYPES

if TYPE_CHECKING:
    from berth.engine.layouts import Layout
    from berth.engine.settings import Batch

MIB = 1024**2

_CAPABILITIES: dict[str, float] = {
    "V100": 7.0, "T4": 7.5, "A100": 8.0, "A30": 8.0, "A10": 8.6, "A10G": 8.6, "A40": 8.6, "A16": 8.6,
    "L4": 8.9, "L40": 8.9, "L40S": 8.9, "H100": 9.0, "H200": 9.0, "GH200": 9.0, "H20": 9.0, "B200": 10.0,
    "GB200": 10.0, "B300": 10.3, "GB300": 10.3, "RTX PRO 6000": 12.0, "RTX PRO SERVER 6000": 12.0,
    "P100": 6.0, "P40": 6.1, "P4": 6.1, "M60": 5.2, "K80": 3.7,
}  # fmt: skip
"""Compute capabilities by name, from developer.nvidia.com/cuda-gpus, read 2026-11-24."""
_NEWEST = 12.0

_CONTEXTS = ((12.0, 768 * MIB), (9.0, 768 * MIB), (8.0, 560 * MIB), (0.0, 400 * MIB))
"""Bytes of the process's own context from a compute capability on."""
_ROW_PADDING = 512
_POOL, _POOL_STEP = 32 * MIB, 2 * MIB
"""For the parts of results that kernels join at the end, and the step in which a pool grows; estimated."""
_BLOCK_PADDING = 128 - 32
"""CUDA aligns every tensor to 128 bytes where the CPU aligns to 32."""


@dataclass(frozen=True)
class Overhead:
    """CUDA's share on one model of GPU. Every figure but the copies and paddings is estimated."""

    compute_capability: float
    estimated: bool = True

    @cached_property
    def context(self) -> int:
        """The context of the process, with the engine's kernels."""
        return next(size for least, size in _CONTEXTS if self.compute_capability >= least)

    @property
    def workspace(self) -> int:
        """cuBLAS' workspace."""
        return (32 if self.compute_capability >= 9.0 else 8) * MIB

    @property
    def integer_products(self) -> bool:
        """Whether large products work on quantized weights; before Turing those become 16 bits wide."""
        return self.compute_capability >= 7.5

    def bytes(self, layout: Layout, batch: Batch) -> int:
        """What CUDA adds on the GPU where it adds most."""
        return (
            self.context
            + self.workspace
            + self._pool(layout, batch)
            + half_precision_copies(layout, batch)
            + _paddings(layout)
            + _fused_routing(layout, batch)
        )

    def _pool(self, layout: Layout, batch: Batch) -> int:
        """Operands and results of the largest matrix product, in the form that its kernel reads."""
        largest = 0
        for inner, outer, quantized, chosen in _products(layout):
            rows = batch.tokens * chosen
            if quantized and self.integer_products:
                need = row_bytes("Q8_1", -(-inner // _ROW_PADDING) * _ROW_PADDING) * rows
            else:
                need = 2 * rows * (inner + outer) + (2 * inner * outer if quantized else 0)
            largest = max(largest, need)
        return -(-(largest + _POOL) // _POOL_STEP) * _POOL_STEP


def half_precision_copies(layout: Layout, batch: Batch) -> int:
    """The 16-bit copies of the keys and values of the layer that has most of them."""
    if not batch.settings.flash_attention or batch.key_type == batch.value_type == "F16":
        return 0
    cache = kv.cache(layout.hyperparameters, batch)
    most = 0
    for layer, entry in enumerate(cache.layers):
        if entry is None:
            continue
        sliding = kv.slides(layout.hyperparameters, layer)
        cells = cache.sliding if sliding else cache.full
        width = (entry.key_width if batch.key_type != "F16" else 0) + (
            entry.value_width if batch.value_type != "F16" else 0
        )
        most = max(most, 2 * width * cells.cells * cells.streams)
    return most


@lru_cache(maxsize=256)
def overhead(gpu_model: str | None) -> Overhead | None:
    """CUDA's share on a GPU by its name, of the newest kind where the name is not known; None for no name."""
    if gpu_model is None:
        return None
    return Overhead(compute_capability(gpu_model) or _NEWEST)


def compute_capability(gpu_model: str) -> float | None:
    """A GPU's compute capability by its name, None of one that is not known."""
    name = re.sub(r"[^A-Z0-9]+", " ", gpu_model.upper()).split()
    for known in sorted(_CAPABILITIES, key=len, reverse=True):
        words = known.split()
        if any(name[start : start + len(words)] == words for start in range(len(name))):
            return _CAPABILITIES[known]
    return None


def _products(layout: Layout) -> frozenset[tuple[int, int, bool, int]]:
    """The matrices that a whole batch is multiplied with: both lengths, quantized or not, rows per token."""
    known: frozenset[tuple[int, int, bool, int]] | None = layout.__dict__.get("_products")
    if known is None:
        used = max(layout.hyperparameters.experts_used, default=1) or 1
        known = frozenset(
            (
                tensor.shape[0],
                tensor.shape[1],
                TYPES[tensor.type][1] > 1,
                1 if len(tensor.shape) == 2 else used,
            )
            for tensor in layout.tensors
            if len(tensor.shape) >= 2 and tensor.name.startswith("blk.") and tensor.name.endswith(".weight")
        )
        layout.__dict__["_products"] = known
    return known


def _paddings(layout: Layout) -> int:
    """What CUDA adds to tensors so that rows and tensors start where its kernels want them."""
    known: int | None = layout.__dict__.get("_paddings")
    if known is None:
        known = _BLOCK_PADDING * len(layout.tensors)
        for tensor in layout.tensors:
            missing = -tensor.shape[0] % _ROW_PADDING
            if missing and TYPES[tensor.type][1] > 1:
                known += row_bytes(tensor.type, missing)
        layout.__dict__["_paddings"] = known
    return known


def _fused_routing(layout: Layout, batch: Batch) -> int:
    """Small tensors of the router that a fused kernel keeps longer than the oracle's devices do."""
    return 8 * 4 * layout.hyperparameters.experts * batch.tokens
