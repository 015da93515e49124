"""The engine's graph allocator: which bytes of a device's compute buffer each tensor of a graph takes.

It gives out the best fitting free block (of equal ones the last), grows the buffer only where none fits,
lets a result take its operand's memory where nobody else reads it, and frees a tensor after its last reader.
The buffer's size is the furthest byte that was ever given out. Buffers are of one piece: neither CUDA nor
RPC limits the size of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.graph import IN_PLACE, LEAF

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from berth.engine.graph import Node

_ENDLESS = 2**62
_RECENT = 160
"""Tensors to look back for those in use; a layer has fewer."""


class FreeList:
    """The free blocks of one buffer, by offset; the last one is the endless rest."""

    __slots__ = ("alignment", "offsets", "peak", "sizes")

    def __init__(self, alignment: int) -> None:
        self.alignment = alignment
        self.offsets = [0]
        self.sizes = [_ENDLESS]
        self.peak = 0

    def take(self, size: int) -> int:
        """Give out `size` bytes, which are a multiple of the alignment, and return their offset."""
        offsets, sizes = self.offsets, self.sizes
        chosen = len(sizes) - 1
        best = _ENDLESS
        for index in range(chosen):
            if size <= sizes[index] <= best:
                chosen = index
                best = sizes[index]
        offset = offsets[chosen]
        offsets[chosen] = offset + size
        sizes[chosen] -= size
        if sizes[chosen] == 0:
            del offsets[chosen], sizes[chosen]
        if offset + size > self.peak:
            self.peak = offset + size
        return offset

    def give_back(self, offset: int, size: int) -> None:
        """Free bytes, joined to the free blocks on either side."""
        offsets, sizes = self.offsets, self.sizes
        end = offset + size
        for index, start in enumerate(offsets):
            if start + sizes[index] == offset:
                sizes[index] += size
                following = index + 1
                if following < len(offsets) and start + sizes[index] == offsets[following]:
                    sizes[index] += sizes[following]
                    del offsets[following], sizes[following]
                return
            if end == start:
                offsets[index] = offset
                sizes[index] += size
                if index and offsets[index - 1] + sizes[index - 1] == offset:
                    sizes[index - 1] += sizes[index]
                    del offsets[index], sizes[index]
                return
        place = 0
        while place < len(offsets) and offsets[place] < offset:
            place += 1
        offsets.insert(place, offset)
        sizes.insert(place, size)


def reserve(
    nodes: Sequence[tuple[Node, int]], leafs: Sequence[tuple[Node, int]], alignments: Sequence[int],
    marks: Mapping[Node, int],
) -> tuple[list[int], dict[int, Hashable]]:  # fmt: skip
    """The size of every device's compute buffer for a graph, and the state behind each marked tensor.

    Args:
        nodes: what is computed, in order, with the device of each.
        leafs: what is given, with the device of each.
        alignments: of each device's buffer, in bytes.
        marks: tensors behind which the state is wanted, and the keys under which to give it.
    """
    states: dict[int, Hashable] = {}
    since: list[Node] = []
    free = [FreeList(alignment) for alignment in alignments]
    for node, where in leafs:
        if not (node.external or node.allocated):
            _place(free[where], node, where)
    for node, where in nodes:
        if node.view_of is not None and node.op != LEAF:
            node.view_of.views += 1
        for source in node.sources:
            source.children += 1
            if source.input and not (source.allocated or source.external or source.view_of):
                _place(free[where], source, where)
    for node, where in nodes:
        for source in node.sources:
            if not (source.allocated or source.external or source.view_of):
                _place(free[where], source, where)
        if not (node.allocated or node.external or node.view_of):
            if node.op in IN_PLACE and _reuse(free, node):
                node.allocated = True
            else:
                _place(free[where], node, where)
        for source in node.sources:
            source.children -= 1
            if source.children == 0 and source.views == 0:
                owner = source.view_of
                if owner is None:
                    if source.allocated:
                        _release(free, source)
                else:
                    owner.views -= 1
                    if owner.views == 0 and owner.children == 0 and owner.allocated:
                        _release(free, owner)
        if marks:
            since.append(node)
            if node in marks:
                states[marks[node]] = _state(free, since[-_RECENT:])
    return [entry.peak for entry in free], states


def _state(free: list[FreeList], recent: list[Node]) -> Hashable:
    """All that decides what comes next: the free blocks, and where the tensors in use are."""
    blocks = tuple((tuple(entry.offsets), tuple(entry.sizes)) for entry in free)
    used = tuple(
        (node.where, node.address, node.size, node.op)
        for node in recent
        if node.allocated and node.op != LEAF
    )
    return blocks, used


def _place(free: FreeList, node: Node, where: int) -> None:
    alignment = free.alignment
    node.allocated = True
    node.where = where
    node.address = free.take(-(-node.size // alignment) * alignment)


def _release(free: list[FreeList], node: Node) -> None:
    if node.output:
        return
    entry = free[node.where]
    entry.give_back(node.address, -(-node.size // entry.alignment) * entry.alignment)
    node.allocated = False


def _reuse(free: list[FreeList], node: Node) -> bool:
    """Take over the memory of an operand of the same layout that nothing else reads or views."""
    for source in node.sources:
        if (
            source.allocated
            and source.children == 1
            and source.views == 0
            and not source.output
            and source.nb == node.nb
            and source.ne == node.ne
            and source.kind == node.kind
        ):
            node.where = source.where
            node.address = source.address
            source.allocated = False
            entry = free[node.where]
            have = -(-source.size // entry.alignment) * entry.alignment
            need = -(-node.size // entry.alignment) * entry.alignment
            if have > need:
                entry.give_back(node.address + need, have - need)
            return True
    return False
