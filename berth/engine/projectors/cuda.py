"""What CUDA takes for a projector beside its buffers: it is a program of its own within the engine.

The projector has its own handle of cuBLAS and its own memory pool, which grows to what its dearest step
needs. After the engine's source (`ggml_cuda_mul_mat_cublas_impl`, `launch_fattn`): a product holds both
operands and the result in the type that it computes in, where they are not of it already; fused attention
holds as many partial results as parts of the keys are worked on at once. How many those are depends on how
a GPU fills up, so that part is estimated, on the high side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.graph import F16, F32

if TYPE_CHECKING:
    from collections.abc import Iterable

    from berth.engine.graph import Node

WORKSPACE = 32 * 1024**2
"""cuBLAS' of the newest GPUs, where it is largest (`berth.engine.overhead`)."""
_PARTS = 4
"""Parts of the keys at once; the engine begins with the blocks that a multiprocessor holds, two or three."""
_STEP = 2 * 1024**2
"""In which the pool grows."""


def pool_of(nodes: Iterable[Node]) -> int:
    """The pool and the workspace for the dearest step of a graph, in bytes."""
    largest = 0
    for node in nodes:
        if node.op == "mul_mat":
            largest = max(largest, _product(node))
        elif node.op == "flash_attn":
            largest = max(largest, _PARTS * node.size)
    return -(-largest // _STEP) * _STEP + WORKSPACE


def _product(node: Node) -> int:
    """Copies that a product makes: in 16 bits, or, on GPUs that are slow with those, in 32."""
    left, right = node.sources
    if left.kind == right.kind == F32:
        return 0
    half = node.size // 2 + (_count(right) * 2 if right.kind != F16 else 0) + _count(left) * 2 * left.weight
    single = _count(left) * 4 + (_count(right) * 4 if right.kind != F32 else 0)
    return max(half, single)


def _count(node: Node) -> int:
    ne = node.ne
    return ne[0] * ne[1] * ne[2] * ne[3]
