"""The graph allocator, on graphs small enough to follow by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from berth.engine import graph as g
from berth.engine.allocator import FreeList, reserve
from berth.engine.graph import Graph, Node

KIB = 1024


def floats(count: int) -> Node:
    """An input of `count` KiB."""
    node = g.leaf(g.F32, count * KIB // 4)
    node.input = True
    return node


def size(*results: Node, alignment: int = 32) -> int:
    """The compute buffer of a graph on one device."""
    graph = Graph()
    for node in results:
        graph.expand(node)
    nodes = [(node, 0) for node in graph.nodes]
    leafs = [(node, 0) for node in graph.leafs]
    return reserve(nodes, leafs, [alignment], {})[0][0]


def test_an_operation_element_by_element_takes_its_operands_place() -> None:
    value = floats(4)
    assert size(g.unary(g.unary(g.unary(value)))) == 4 * KIB


def test_an_operand_that_is_read_again_keeps_its_place() -> None:
    value = floats(4)
    assert size(g.binary("add", g.unary(value), value)) == 8 * KIB


def test_a_matrix_product_never_overwrites_what_it_reads() -> None:
    weights = g.leaf(g.F32, 256, 1024)
    weights.external = weights.weight = weights.seen = True
    value = g.leaf(g.F32, 256)
    value.input = True
    assert size(g.mul_mat(weights, value)) == 1 * KIB + 4 * KIB


def test_memory_is_used_again_after_the_last_reader() -> None:
    value = floats(4)
    first = g.fresh("glu", (KIB, 1, 1, 1), [value])
    second = g.fresh("glu", (KIB, 1, 1, 1), [first])
    third = g.fresh("glu", (KIB, 1, 1, 1), [second])
    assert size(third) == 8 * KIB


def test_a_result_that_is_kept_is_neither_freed_nor_overwritten() -> None:
    value = floats(4)
    first = g.unary(value)
    first.output = True
    last = g.unary(g.unary(first))
    assert size(last) == 8 * KIB


def test_a_view_keeps_its_owner_alive() -> None:
    value = floats(4)
    owner = g.fresh("glu", (KIB, 1, 1, 1), [value])
    part = g.view(owner, (256,))
    used = g.fresh("glu", (KIB, 1, 1, 1), [floats(4)])
    joined = g.fresh("glu", (KIB, 1, 1, 1), [used, part])
    assert size(owner, used, joined) == 12 * KIB


def test_a_result_with_another_layout_gets_memory_of_its_own() -> None:
    value = g.leaf(g.F32, 32, 32)
    value.input = True
    turned = g.transpose(value)
    assert size(g.unary(turned)) == 8 * KIB


def test_weights_and_cache_take_nothing_of_the_compute_buffer() -> None:
    weights = g.leaf("Q4_K", 4096, 4096)
    weights.external = weights.seen = True
    rows = g.leaf(g.I32, 8)
    rows.input = True
    assert size(g.get_rows(weights, rows)) == 32 + 8 * 4096 * 4


def test_a_conversion_counts_itself_and_is_still_freed() -> None:
    value = floats(4)
    half = g.cast(value, g.F16)
    after = g.fresh("glu", (KIB, 1, 1, 1), [half])
    assert size(g.fresh("glu", (KIB, 1, 1, 1), [after])) == 4 * KIB + 2 * KIB + 4 * KIB - 2 * KIB


def test_every_tensor_is_padded_to_the_buffers_alignment() -> None:
    first, second = g.leaf(g.F32, 1), g.leaf(g.F32, 1)
    first.input = second.input = True
    assert size(g.binary("add", first, second), alignment=128) == 256


class TestFreeList:
    def test_the_smallest_block_that_is_large_enough_is_taken(self) -> None:
        free = FreeList(32)
        large, wall, small, _ = free.take(256), free.take(32), free.take(64), free.take(32)
        free.give_back(large, 256)
        free.give_back(small, 64)
        assert free.take(64) == small
        assert free.take(32) == large
        assert wall == 256

    def test_the_buffer_grows_only_where_no_block_is_large_enough(self) -> None:
        free = FreeList(32)
        block, _ = free.take(128), free.take(32)
        free.give_back(block, 128)
        assert free.take(256) == 160
        assert free.peak == 416

    def test_neighbours_are_joined(self) -> None:
        free = FreeList(32)
        blocks = [free.take(32) for _ in range(4)]
        for block in (blocks[0], blocks[2], blocks[1]):
            free.give_back(block, 32)
        assert free.take(96) == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=60))
def test_blocks_that_are_in_use_never_overlap(steps: list[tuple[int, bool]]) -> None:
    free = FreeList(32)
    used: list[tuple[int, int]] = []
    for units, release in steps:
        if release and used:
            free.give_back(*used.pop(units % len(used)))
            continue
        length = 32 * (units + 1)
        start = free.take(length)
        assert all(start + length <= other or other + width <= start for other, width in used)
        used.append((start, length))
    assert free.peak >= sum(width for _, width in used)
    for block in used:
        free.give_back(*block)
    assert free.offsets == [0]
