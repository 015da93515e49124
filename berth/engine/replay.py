"""The engine's reservation, replayed: the size of every device's compute buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graphs, kv
from berth.engine.graphs.base import Builder
from berth.engine.scheduler import PIPELINE_COPIES, buffer_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.engine.devices import Placement
    from berth.engine.layouts import Layout
    from berth.engine.settings import Batch

ALIGNMENT = 32
"""Of buffers on the CPU, and of devices over RPC whose own buffers are there."""
CUDA_ALIGNMENT = 128


def compute(
    layout: Layout, batch: Batch, placement: Placement, layers: Sequence[int] | None = None,
    alignment: int = ALIGNMENT,
) -> list[int]:  # fmt: skip
    """The compute buffer of each GPU and, last, of the host, in bytes.

    `layers` are those that the graph is made of, all if None; see `representative`.
    """
    numbers = layout.hyperparameters
    build_graph = graphs.graph_of(numbers.architecture)
    chosen = range(numbers.main_layers) if layers is None else layers
    build = Builder(layout, batch, kv.cache(numbers, batch), placement, chosen)
    build_graph(build)
    alignments = [alignment] * placement.gpus + [ALIGNMENT]
    return buffer_sizes(build.graph, alignments, PIPELINE_COPIES if placement.gpus > 1 else 1)
