"""Symbolic tensors and the graph that the engine makes of them: shapes and dependencies, never data.

What the allocator sees of a graph is each tensor's size, its layout, which tensor it is a view of, which
tensors it reads, and the order in which all of them are computed. This module keeps exactly that, with
ggml's rules: the shape that an operation's result has, whether it is a view, and the depth-first order of
`ggml_build_forward_expand`.
"""

from __future__ import annotations

from berth.engine.tensors import TYPES

Shape = tuple[int, int, int, int]
Strides = tuple[int, int, int, int]

F32 = "F32"
F16 = "F16"
I32 = "I32"
I64 = "I64"

IN_PLACE = frozenset({
    "fill", "scale", "add", "add_id", "sub", "mul", "div", "sqr", "sqrt", "log", "unary", "rope", "rms_norm",
    "clamp", "soft_max",
})  # fmt: skip
"""Operations whose result may take the memory of an operand that nobody else reads."""
VIEWS = frozenset({"view", "reshape", "permute", "transpose"})
"""Operations that compute nothing."""
FOLLOWS_NO_WEIGHT = frozenset({"rope", "flash_attn"})
"""Operations that do not run where their weights are, because those are too small to decide it."""
LEAF = "none"

UNPLACED = -1


class Node:
    """One tensor of a graph, with what scheduler and allocator note about it."""

    __slots__ = (
        "address",
        "allocated",
        "children",
        "dense",
        "device",
        "external",
        "input",
        "kind",
        "nb",
        "ne",
        "op",
        "output",
        "seen",
        "size",
        "sources",
        "view_of",
        "views",
        "weight",
        "where",
    )  # fmt: skip

    def __init__(
        self, op: str, kind: str, ne: Shape, nb: Strides, size: int, sources: list[Node],
        view_of: Node | None = None, dense: bool = True,
    ) -> None:  # fmt: skip
        self.op = op
        self.kind = kind
        self.ne = ne
        self.nb = nb
        self.size = size
        """Bytes that the data spans."""
        self.sources = sources
        self.view_of = view_of
        """The tensor that owns the data, where it is not this one."""
        self.dense = dense
        """Whether the layout is the usual one of its shape, without gaps."""
        self.device = UNPLACED
        self.external = False
        """Whether the data lies in a buffer of weights or of the cache, outside the graph's own."""
        self.weight = False
        self.input = False
        self.output = False
        self.seen = False
        self.children = 0
        self.views = 0
        self.allocated = False
        self.where = 0
        self.address = 0


def dense_strides(kind: str, ne: Shape) -> Strides:
    """The byte strides of a tensor without gaps."""
    if kind == F32:
        row = 4 * ne[0]
        plane = row * ne[1]
        return 4, row, plane, plane * ne[2]
    _, block, size = TYPES[kind]
    row = size * (ne[0] // block)
    plane = row * ne[1]
    return size, row, plane, plane * ne[2]


def span(kind: str, ne: Shape, nb: Strides) -> int:
    """The bytes from a tensor's first to its last element; zero where it has none."""
    if min(ne) <= 0:
        return 0
    _, block, size = TYPES[kind]
    first = size if block == 1 else ne[0] * nb[0] // block
    total = first + (ne[1] - 1) * nb[1] + (ne[2] - 1) * nb[2] + (ne[3] - 1) * nb[3]
    return total + (ne[0] - 1) * nb[0] if block == 1 else total


def row_bytes(kind: str, elements: int) -> int:
    """The bytes of a row of elements."""
    _, block, size = TYPES[kind]
    return elements // block * size


def fresh(op: str, ne: Shape, sources: list[Node], kind: str = F32) -> Node:
    """A tensor with memory of its own and the usual layout."""
    nb = dense_strides(kind, ne)
    return Node(op, kind, ne, nb, nb[3] * ne[3], sources)


def like(op: str, model: Node, sources: list[Node]) -> Node:
    """A tensor with memory of its own and another one's shape and type."""
    if model.dense:
        return Node(op, model.kind, model.ne, model.nb, model.size, sources)
    return fresh(op, model.ne, sources, model.kind)


def leaf(kind: str, *lengths: int) -> Node:
    """A tensor that nothing computes."""
    ne: Shape = (*lengths, 1, 1, 1, 1)[:4]  # type: ignore[assignment]
    return fresh(LEAF, ne, [], kind)


def contiguous(node: Node) -> bool:
    """Whether elements follow each other without gaps; dimensions of length 1 may have any stride."""
    if node.dense:
        return True
    _, block, expected = TYPES[node.kind]
    if node.ne[0] != block and node.nb[0] != expected:
        return False
    expected *= node.ne[0] // block
    for length, stride in zip(node.ne[1:], node.nb[1:], strict=True):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True


def _view(op: str, of: Node, ne: Shape, nb: Strides, dense: bool) -> Node:
    size = of.size if dense and ne[0] * ne[1] * ne[2] * ne[3] == _count(of) else span(of.kind, ne, nb)
    return Node(op, of.kind, ne, nb, size, [of], of.view_of or of, dense)


def _count(node: Node) -> int:
    ne = node.ne
    return ne[0] * ne[1] * ne[2] * ne[3]


def view(of: Node, ne: tuple[int, ...], strides: tuple[int, ...] = ()) -> Node:
    """A part of a tensor: `strides` are those of the second dimension and on."""
    full: Shape = (*ne, 1, 1, 1)[:4]  # type: ignore[assignment]
    unit = TYPES[of.kind][2]
    usual = dense_strides(of.kind, full)
    given = [unit, *strides]
    while len(given) < 4:
        given.append(given[-1] * full[len(given) - 1] if len(given) > 1 else usual[1])
    nb: Strides = tuple(given)  # type: ignore[assignment]
    return _view("view", of, full, nb, nb == usual)


def reshape(of: Node, *ne: int) -> Node:
    """The same data in another shape."""
    full: Shape = (*ne, 1, 1, 1)[:4]  # type: ignore[assignment]
    return Node("reshape", of.kind, full, dense_strides(of.kind, full), of.size, [of], of.view_of or of)


def permute(of: Node, *axes: int) -> Node:
    """The same data with dimension i becoming dimension `axes[i]`."""
    ne, nb = [0] * 4, [0] * 4
    for index, axis in enumerate(axes):
        ne[axis] = of.ne[index]
        nb[axis] = of.nb[index]
    shape: Shape = tuple(ne)  # type: ignore[assignment]
    strides: Strides = tuple(nb)  # type: ignore[assignment]
    dense = strides == dense_strides(of.kind, shape)
    return Node("permute", of.kind, shape, strides, of.size, [of], of.view_of or of, dense)


def transpose(of: Node) -> Node:
    """The same data with rows and columns exchanged."""
    node = permute(of, 1, 0, 2, 3)
    node.op = "transpose"
    return node


class Adapted(Node):
    """A matrix of the model with LoRA adapters: for each, a narrow matrix and one that widens again."""

    __slots__ = ("adapters",)

    adapters: list[tuple[Node, Node]]

    @classmethod
    def of(cls, matrix: Node, adapters: list[tuple[Node, Node]]) -> Adapted:
        node = cls(LEAF, matrix.kind, matrix.ne, matrix.nb, matrix.size, [])
        node.adapters = adapters
        return node


def mul_mat(weights: Node, data: Node) -> Node:
    """A matrix product: rows of `weights` with rows of `data`; what adapters change is added."""
    ne = data.ne
    result = fresh("mul_mat", (weights.ne[1], ne[1], ne[2], ne[3]), [weights, data])
    if isinstance(weights, Adapted):
        for narrow, wide in weights.adapters:
            change = unary(mul_mat(wide, mul_mat(narrow, data)), "scale")
            result = binary("add", result, change)
    return result


def mul_mat_id(experts: Node, data: Node, chosen: Node) -> Node:
    """Matrix products with the chosen ones of many matrices; what adapters change is added."""
    result = fresh("mul_mat_id", (experts.ne[1], chosen.ne[0], data.ne[2], 1), [experts, data, chosen])
    if isinstance(experts, Adapted):
        for narrow, wide in experts.adapters:
            change = unary(mul_mat_id(wide, mul_mat_id(narrow, data, chosen), chosen), "scale")
            result = binary("add", result, change)
    return result


def get_rows(table: Node, rows: Node) -> Node:
    """Chosen rows of a table."""
    ne = rows.ne
    kind = I32 if table.kind == I32 else F32
    return fresh("get_rows", (table.ne[0], ne[0], ne[1], ne[2]), [table, rows], kind)


def set_rows(table: Node, values: Node, rows: Node) -> Node:
    """A table with chosen rows overwritten: a view of it."""
    return Node(
        "set_rows", table.kind, table.ne, table.nb, table.size, [values, rows, table],
        table.view_of or table, table.dense,
    )  # fmt: skip


def copy_into(value: Node, target: Node) -> Node:
    """A copy into memory that is there already: a view of it."""
    return Node(
        "cpy", target.kind, target.ne, target.nb, target.size, [value, target], target.view_of or target,
        target.dense,
    )  # fmt: skip


def cast(value: Node, kind: str) -> Node:
    """A copy of another type; as in the engine it counts itself among what it reads."""
    node = fresh("cpy", value.ne, [value], kind)
    node.sources.append(node)
    return node


def cont(value: Node, *ne: int) -> Node:
    """A copy without gaps, in another shape if one is given."""
    shape: Shape = (*ne, 1, 1, 1)[:4] if ne else value.ne  # type: ignore[assignment]
    return fresh("cont", shape, [value], value.kind)


def binary(op: str, left: Node, right: Node) -> Node:
    """An operation element by element on two tensors, of which the second may be repeated."""
    return like(op, left, [left, right])


def unary(value: Node, op: str = "unary") -> Node:
    """An operation element by element."""
    return like(op, value, [value])


def in_place(value: Node, op: str) -> Node:
    """An operation that overwrites its operand: a view of it."""
    return Node(op, value.kind, value.ne, value.nb, value.size, [value], value.view_of or value, value.dense)


def glu(gate: Node, up: Node | None = None) -> Node:
    """A gated activation; with one operand, that one holds both halves."""
    if up is not None:
        return fresh("glu", gate.ne, [gate, up], gate.kind)
    ne = gate.ne
    return fresh("glu", (ne[0] // 2, ne[1], ne[2], ne[3]), [gate], gate.kind)


def concat(left: Node, right: Node, axis: int) -> Node:
    """Two tensors side by side along an axis."""
    ne = list(left.ne)
    ne[axis] += right.ne[axis]
    return fresh("concat", tuple(ne), [left, right], left.kind)  # type: ignore[arg-type]


def pad(value: Node, elements: int) -> Node:
    """A copy with longer rows."""
    ne = value.ne
    return fresh("pad", (ne[0] + elements, ne[1], ne[2], ne[3]), [value], value.kind)


def sum_rows(value: Node) -> Node:
    """The sum of each row."""
    return fresh("sum_rows", (1, *value.ne[1:]), [value], value.kind)


def repeat(value: Node, *ne: int) -> Node:
    """A tensor repeated to a larger shape."""
    full: Shape = (*ne, 1, 1, 1)[:4]  # type: ignore[assignment]
    return fresh("repeat", full, [value], value.kind)


def top_k(value: Node, count: int) -> Node:
    """The places of the largest entries of each row: a view of the places of all, in order."""
    order = fresh("argsort", value.ne, [value], I32)
    ne = value.ne
    return view(order, (count, ne[1], ne[2], ne[3]), order.nb[1:])


class Graph:
    """Tensors in the order in which they are computed."""

    __slots__ = ("leafs", "nodes")

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leafs: list[Node] = []

    def expand(self, node: Node) -> Node:
        """Add a tensor and, before it, everything it needs that is not there yet."""
        if not node.seen:
            self._visit(node)
        return node

    def _visit(self, node: Node) -> None:
        node.seen = True
        for source in node.sources:
            if not source.seen:
                self._visit(source)
        if node.op == LEAF:
            self.leafs.append(node)
        else:
            self.nodes.append(node)
