"""The engine's reservation, replayed: the size of every device's compute buffer.

The engine builds the graph of the largest batch and lets its allocator find the peak. Layers of one kind on
one device repeat the same steps, so a few repetitions reach the same peak as all of them, once the allocator
is back in a state that it was in before. That is checked in every replay: where the states differ, more
layers are built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth.engine import graphs, kv
from berth.engine.graphs.attention import Builder
from berth.engine.scheduler import PIPELINE_COPIES, buffer_sizes
from berth.errors import InvalidGguf, InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Hashable

    from berth.engine.devices import Placement
    from berth.engine.layouts import Layout
    from berth.engine.settings import Batch

ALIGNMENT = 32
"""Of buffers on the CPU, and of devices over RPC whose own buffers are there."""
_LONGEST_PERIOD = 12
_WIDE_GRAPHS = frozenset({"qwen3next", "qwen35", "qwen35moe"})
"""Architectures for whose graphs the engine reserves more room."""
_TABLE_SIZES = (1031, 2053, 4099, 8209, 16411, 32771, 65537, 131101, 262147)
"""The sizes of the engine's table of tensors."""
_SINGLE = ((4, 1), (6, 2), (8, 2))
_SEVERAL = ((3, 1), (4, 2), (6, 2))
"""How many repetitions are kept, of one layer and of several, and after how many of them the allocator must
be back in its state: from little to much, then all."""
_TRIES = 5
"""Replays of a few layers before that of all."""

Levels = tuple[tuple[int, int], ...]
"""By the first layer of what repeats, how far the lists above are gone down; absent ones start at the top."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Layers that stand for all."""

    layers: tuple[int, ...]
    checks: tuple[tuple[int, int, int], ...] = ()
    """Two layers before which the allocator must be in the same state, and where the repeating starts."""
    weights: tuple[int, ...] = ()
    """How many layers each stands for; empty where all are there."""


def compute(layout: Layout, batch: Batch, placement: Placement) -> list[int]:
    """The compute buffer of each GPU and, last, of the host, in bytes."""
    # what this model needed before is where the next search starts; the result does not depend on it
    known: dict[Placement, Levels] = layout.__dict__.setdefault("_levels", {})
    levels = known.get(placement, ())
    for _ in range(_TRIES):
        chosen = representative(layout, placement, levels)
        sizes, states = _replay(layout, batch, placement, chosen)
        failed = {start for later, earlier, start in chosen.checks if states[later] != states[earlier]}
        if not failed:
            known[placement] = levels
            return sizes
        merged = dict(levels)
        for start in failed:
            merged[start] = merged.get(start, 0) + 1
        levels = tuple(sorted(merged.items()))
    known[placement] = tuple((start, _TRIES) for start, _ in levels)
    return compute_all(layout, batch, placement)


def compute_all(layout: Layout, batch: Batch, placement: Placement) -> list[int]:
    """The same from the graph of all layers, which is the engine's own."""
    return _replay(layout, batch, placement, Chosen(tuple(range(layout.hyperparameters.main_layers))))[0]


def _replay(
    layout: Layout, batch: Batch, placement: Placement, chosen: Chosen
) -> tuple[list[int], dict[int, Hashable]]:
    numbers = layout.hyperparameters
    build_graph = graphs.graph_of(numbers.architecture)
    build = Builder(layout, batch, kv.cache(numbers, batch), placement, chosen.layers)
    build.watch = {layer for later, earlier, _ in chosen.checks for layer in (later, earlier)}
    try:
        build_graph(build)
    except (ArithmeticError, IndexError, ValueError) as error:
        raise InvalidGguf(f"the numbers of this {numbers.architecture} do not fit its tensors") from error
    if not batch.settings.adapters:
        _check_room(layout, batch, placement, chosen, build)
    alignments = [ALIGNMENT] * (placement.gpus + 1)
    copies = PIPELINE_COPIES if placement.gpus > 1 else 1
    return buffer_sizes(build.graph, alignments, copies, build.marks)


def _check_room(layout: Layout, batch: Batch, placement: Placement, chosen: Chosen, build: Builder) -> None:
    """Refuse what the engine aborts at: a graph of more tensors than it has room for.

    It reserves room by the number of the model's tensors, which is too little for some models of few and
    fused ones, where a quantized cache adds steps. With adapters the room grows by more than they add, so the
    graph without them decides.
    """
    found = build.count()
    for index, weight in enumerate(chosen.weights[:-1]):
        if weight > 1:
            here, following = chosen.layers[index], chosen.layers[index + 1]
            found += (weight - 1) * (build.counts[following] - build.counts[here])
    tensors = len(layout.tensors)
    if placement.gpus:
        used = len(set(placement.layers))
        tensors += layout.tied + len(layout.everywhere) * (used - 1)
    wide = layout.hyperparameters.architecture in _WIDE_GRAPHS
    asked = max(40 * batch.tokens, 32 * tensors) if wide else max(1024, 8 * tensors)
    room = next((size for size in _TABLE_SIZES if size >= asked), asked)
    if found > room:
        raise InvalidSettings(
            f"with these settings the model's graph has about {found} tensors, more than the {room} that the "
            "engine has room for: it aborts"
        )


def representative(layout: Layout, placement: Placement, levels: Levels = ()) -> Chosen:
    """Layers that reach the same peak as all of them: of what repeats, a few repetitions."""
    known: dict[tuple[Placement, Levels], Chosen] = layout.__dict__.setdefault("_representative", {})
    key = (placement, levels)
    if key not in known:
        known[key] = _choose(layout, placement, dict(levels))
    return known[key]


def _choose(layout: Layout, placement: Placement, levels: dict[int, int]) -> Chosen:
    kinds = layout.kinds
    last = len(kinds) - 1
    if placement.gpus > 1 and layout.hyperparameters.embedding_per_layer:
        # every layer brings an input of its own to the later devices
        return Chosen(tuple(range(len(kinds))))
    marked: list[Hashable] = [
        (kind, placement.layers[layer], layer == last) for layer, kind in enumerate(kinds)
    ]
    checks: list[tuple[int, int, int]] = []
    weights = [1] * len(kinds)
    chosen = list(range(len(kinds)))
    for periods in (range(1, _LONGEST_PERIOD + 1), range(1, 2)):
        chosen = _shorten(chosen, marked, periods, levels, checks, weights)
    kept = set(chosen)
    return Chosen(
        tuple(chosen),
        tuple(check for check in checks if check[0] in kept and check[1] in kept),
        tuple(weights[layer] for layer in chosen),
    )


def _shorten(
    chosen: list[int], marked: list[Hashable], periods: range, levels: dict[int, int],
    checks: list[tuple[int, int, int]], weights: list[int],
) -> list[int]:  # fmt: skip
    """Drop repetitions of blocks of layers, where most can be dropped.

    What must hold for that is added to `checks`; `weights` says how many layers each one stands for.
    """
    kept: list[int] = []
    position = 0
    while position < len(chosen):
        best = (0, -1, 0, 0)
        for period in periods:
            end = position + period
            while end < len(chosen) and marked[chosen[end]] == marked[chosen[end - period]]:
                end += 1
            times = (end - position) // period
            wanted, cycle = _wanted(times, period, levels.get(chosen[position], 0))
            best = max(best, ((times - wanted) * period, -period, wanted, cycle))
        dropped, period, wanted, cycle = best[0], -best[1], best[2], best[3]
        if dropped <= 0:
            kept.append(chosen[position])
            position += 1
            continue
        # the last repetition stays, because some inputs are freed in it
        final = position + (wanted - 1) * period + dropped
        kept += chosen[position : position + (wanted - 1) * period]
        kept += chosen[final : final + period]
        earlier = position + (wanted - 1 - cycle) * period
        checks.append((chosen[final], chosen[earlier], chosen[position]))
        for offset in range(dropped):
            weights[chosen[position + period + offset % period]] += weights[
                chosen[position + (wanted - 1) * period + offset]
            ]
        position = final + period
    return kept


def _wanted(times: int, period: int, level: int) -> tuple[int, int]:
    """How many repetitions to keep, and after how many the state must recur: it divides what is dropped."""
    steps = _SINGLE if period == 1 else _SEVERAL
    if level >= len(steps):
        return times, 1
    least, cycle = steps[level]
    return least + (times - least) % cycle, cycle
