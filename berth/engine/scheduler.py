"""The engine's scheduler: which device computes each tensor of a graph, and what is copied between devices.

Devices are numbered as the engine ranks them: GPUs first, the host last. Every GPU is taken to know every
operation, which is what the engine's own oracle (devices over RPC) reports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.allocator import reserve
from berth.engine.graph import FOLLOWS_NO_WEIGHT, LEAF, UNPLACED, VIEWS, Node

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from berth.engine.graph import Graph

PIPELINE_COPIES = 4
"""Copies of every input where several GPUs work on consecutive batches at the same time."""

Placed = list[tuple[Node, int]]


def buffer_sizes(
    graph: Graph, alignments: Sequence[int], copies: int = 1, marks: Mapping[Node, int] | None = None
) -> tuple[list[int], dict[int, Hashable]]:
    """The compute buffer of each device in bytes, and the allocator's state behind each marked tensor.

    Args:
        graph: its leaves of weights and cache are placed already. It is consumed: its nodes are changed.
        alignments: of each device's buffer; their number is the number of devices.
        copies: of what crosses from one device to another.
        marks: tensors behind which the state is wanted, and the keys under which to give it.
    """
    host = len(alignments) - 1
    if host:
        _assign(graph, host)
        nodes, leafs = _split(graph, host, copies)
    else:
        nodes = [(node, 0) for node in graph.nodes]
        leafs = [(node, 0) for node in graph.leafs]
    return reserve(nodes, leafs, alignments, marks or {})


def _assign(graph: Graph, host: int) -> None:
    """Decide where every tensor is computed."""
    for node in graph.leafs:
        if node.input:
            node.device = host
    computed = [node for node in graph.nodes if node.op not in VIEWS]
    for node in graph.nodes:
        if node.device == UNPLACED:
            node.device = _home(node)
    _spread(computed, host)
    _spread(reversed(computed), host)
    _spread(computed, UNPLACED)
    _spread(reversed(computed), UNPLACED)
    for node in graph.nodes:
        owner = node.view_of
        if node.device == UNPLACED and owner is not None:
            node.device = owner.device
        for source in node.sources:
            if source.device == UNPLACED:
                owner = source.view_of
                source.device = node.device if owner is None else owner.device
        if node.device == UNPLACED:
            node.device = 0


def _home(node: Node) -> int:
    """Where a tensor belongs by the data that it overwrites or the weights that it reads."""
    owner = node.view_of
    if owner is not None and owner.external:
        return owner.device
    if node.op not in FOLLOWS_NO_WEIGHT:
        for source in node.sources:
            if source.weight:
                return source.device
    return UNPLACED


def _spread(nodes: Iterable[Node], barrier: int) -> None:
    """Give tensors without a home the device of their neighbour, but never across `barrier`."""
    current = UNPLACED
    for node in nodes:
        device = node.device
        if device != UNPLACED:
            current = UNPLACED if device == barrier else device
        elif current != UNPLACED:
            node.device = current


def _split(graph: Graph, host: int, copies: int) -> tuple[Placed, Placed]:
    """Cut the graph where the device changes, with copies of what is read from another device."""
    splits: list[tuple[int, list[Node], list[Node]]] = []
    have: dict[tuple[int, int], list[Node]] = {}
    current = next(node.device for node in graph.nodes if node.op not in VIEWS)
    inputs: list[Node] = []
    members: list[Node] = []
    splits.append((current, inputs, members))
    for node in graph.nodes:
        if node.op not in VIEWS:
            if node.device != current or (inputs and _reads_foreign_weight(node, current)):
                current = node.device
                inputs, members = [], []
                splits.append((current, inputs, members))
            for index, source in enumerate(node.sources):
                if source.device != current:
                    key = (id(source), current)
                    if key not in have:
                        have[key] = [_copy(source, current, copies) for _ in range(copies)]
                        inputs.append(source)
                    node.sources[index] = have[key][0]
        members.append(node)

    leafs: Placed = []
    if copies > 1:
        for node in graph.leafs:
            if node.input:
                leafs.append((node, host))
                node.output = True
                leafs += [(_copy(node, host, copies), host) for _ in range(copies - 1)]
        for device, inputs, _ in splits:
            for source in inputs:
                leafs += [(copy, device) for copy in have[id(source), device]]
    leafs += [(node, node.device) for node in graph.leafs]

    nodes: Placed = []
    for device, inputs, members in splits:
        for source in inputs:
            # a tensor that is copied must outlive the copying: a view that only holds it
            holder = Node(
                LEAF, source.kind, source.ne, source.nb, source.size, [source], source.view_of or source
            )
            nodes.append((holder, source.device))
            nodes.append((have[id(source), device][0], device))
        nodes += [(node, node.device) for node in members]
    return nodes, leafs


def _reads_foreign_weight(node: Node, current: int) -> bool:
    return any(source.weight and source.device != current for source in node.sources)


def _copy(source: Node, device: int, copies: int) -> Node:
    copy = Node(LEAF, source.kind, source.ne, source.nb, source.size, [])
    copy.device = device
    if copies > 1:
        copy.input = copy.output = True
    return copy
