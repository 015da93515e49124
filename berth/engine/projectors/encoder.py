"""What the graphs of all projectors share: the image's patches, norms, attention, networks.

As in `berth.engine.graphs`, each step follows the engine's own (`clip_graph` of its `tools/mtmd`), in the
same order. A tensor that is in a file or not (a bias) is taken to be as the engine's converter writes it for
the type: it changes no size of a buffer, only what is computed in place. The converter never writes the
filters of patches as BF16, for which the first step would be twice as large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from berth.engine import graph as g
from berth.engine.graph import F16, F32, Graph, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.engine.projectors.numbers import Numbers

GPU, HOST = 0, 1
CUDA_HEADS = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
"""Lengths of heads for which CUDA has fused attention, without a mask by group (`fattn.cu`)."""
COLOURS = 3
Norm = Literal["rms_norm", "norm"]


class Encoder:
    """One graph under construction: a batch of images of one size."""

    def __init__(
        self, numbers: Numbers, across: int, down: int, images: int = 1, *, flash: bool = True,
        cuda: bool = False,
    ) -> None:  # fmt: skip
        self.numbers = numbers
        self.across, self.down = across, down
        """Patches of an image."""
        self.patches = across * down
        self.images = images
        self.flash = flash
        self.cuda = cuda
        self.graph = Graph()
        self.expand = self.graph.expand

    # what is given

    def weight(self, *lengths: int, kind: str = F16) -> Node:
        """A tensor of the projector; it lies on the first GPU."""
        node = g.leaf(kind, *lengths)
        node.external = node.weight = node.seen = True
        node.device = GPU
        return node

    def row(self, length: int) -> Node:
        """A bias, or the factors of a norm."""
        return self.weight(length, kind=F32)

    def given(self, kind: str, *lengths: int) -> Node:
        """An input, which lies on the host."""
        node = g.leaf(kind, *lengths)
        node.input = True
        return node

    def on_host(self, node: Node) -> Node:
        """A step that CUDA has no kernel for, which other devices have."""
        if self.cuda:
            node.device = HOST
        return node

    # the image

    def pixels(self) -> Node:
        """The image as it is given, colour by colour."""
        patch = self.numbers.patch
        return self.given(F32, self.across * patch, self.down * patch, COLOURS, self.images)

    def convolution(self, pixels: Node, patch: int, channels: int, filters: int) -> Node:
        """Patches without overlap, each seen by every filter: side by side, as the image lies."""
        across, down, images = pixels.ne[0] // patch, pixels.ne[1] // patch, pixels.ne[3]
        kernel = self.weight(patch, patch, channels, filters)
        length = patch * patch * channels
        columns = g.fresh("im2col", (length, across, down, images), [kernel, pixels], F16)
        flat = g.reshape(columns, length, across * down * images)
        product = g.mul_mat(flat, g.reshape(kernel, length, filters))
        return g.cont(g.permute(g.reshape(product, across, down, images, filters), 0, 1, 3, 2))

    def embedded(self, bias: bool = True, pixels: Node | None = None) -> Node:
        """One row for each patch."""
        numbers = self.numbers
        value = self.convolution(pixels or self.pixels(), numbers.patch, COLOURS, numbers.width)
        value = g.cont(g.transpose(g.reshape(value, self.patches, numbers.width, self.images)))
        return g.binary("add", value, self.row(numbers.width)) if bias else value

    # steps of a layer

    def norm(self, value: Node, op: Norm, *, factors: bool = True, bias: bool = False) -> Node:
        value = g.like(op, value, [value])
        if factors:
            value = g.binary("mul", value, self.row(value.ne[0]))
        return g.binary("add", value, self.row(value.ne[0])) if bias else value

    def product(self, value: Node, outer: int, *, bounded: bool = False) -> Node:
        """A product with a matrix; bounded, what goes in and what comes out is kept within limits."""
        if bounded:
            value = g.unary(value, "clamp")
        value = g.mul_mat(self.weight(value.ne[0], outer), value)
        return g.unary(value, "clamp") if bounded else value

    def linear(self, value: Node, outer: int, bias: bool = True, *, bounded: bool = False) -> Node:
        value = self.product(value, outer, bounded=bounded)
        return g.binary("add", value, self.row(outer)) if bias else value

    def network(
        self, value: Node, inner: int, outer: int, *, gated: bool = False, bias: bool = True,
        bounded: bool = False,
    ) -> Node:  # fmt: skip
        """Two matrices with an activation between them; gated, there are three."""
        up = self.linear(value, inner, bias, bounded=bounded)
        middle = g.glu(self.linear(value, inner, bias, bounded=bounded), up) if gated else g.unary(up)
        return self.linear(middle, outer, bias, bounded=bounded)

    def attend(
        self, query: Node, key: Node, value: Node, *, mask: Node | None = None, bias: bool = True,
        bounded: bool = False,
    ) -> Node:  # fmt: skip
        """Attention of all patches of an image to each other, and the projection back."""
        for part in (query, key, value):
            self.expand(part)
        query, key = g.permute(query, 0, 2, 1, 3), g.permute(key, 0, 2, 1, 3)
        if self.flash:
            value = g.permute(value, 0, 2, 1, 3)
            sources = [query, g.cast(key, F16), g.cast(value, F16)]
            if mask is not None:
                sources.append(g.cast(mask, F16))
            ne = query.ne
            result = g.fresh("flash_attn", (value.ne[0], ne[2], ne[1], ne[3]), sources)
            if value.ne[0] not in CUDA_HEADS:
                self.on_host(result)
            ne = result.ne
            result = g.reshape(result, ne[0] * ne[1], ne[2] * ne[3])
        else:
            value = g.cont(g.permute(value, 1, 2, 0, 3))
            scores = g.mul_mat(key, query)
            scores = g.like("soft_max", scores, [scores] if mask is None else [scores, mask])
            result = g.permute(g.mul_mat(value, scores), 0, 2, 1, 3)
            ne = result.ne
            result = g.cont(result, ne[0] * ne[1], ne[2] * ne[3])
        return self.linear(result, self.numbers.width, bias, bounded=bounded)

    def heads(self, value: Node, tokens: int) -> Node:
        numbers = self.numbers
        return g.reshape(value, numbers.head, numbers.heads, tokens, self.images)

    def separate(
        self, value: Node, tokens: int, bias: bool = True, *, bounded: bool = False, whole_norms: bool = False
    ) -> tuple[Node, Node, Node]:
        """Queries, keys and values from three matrices, the first two normed over all heads or not."""
        outer = self.numbers.head * self.numbers.heads
        query, key, values = (self.linear(value, outer, bias, bounded=bounded) for _ in range(3))
        if whole_norms:
            query, key = self.norm(query, "rms_norm"), self.norm(key, "rms_norm")
        return self.heads(query, tokens), self.heads(key, tokens), self.heads(values, tokens)

    def fused(self, value: Node, tokens: int) -> tuple[Node, Node, Node]:
        """Queries, keys and values from one matrix."""
        numbers = self.numbers
        both = self.linear(value, 3 * numbers.head * numbers.heads)
        strides = (4 * numbers.head, both.nb[1], both.nb[1] * tokens)
        shape = (numbers.head, numbers.heads, tokens, self.images)
        query, key, values = (g.view(both, shape, strides) for _ in range(3))
        return query, key, values

    def rope(self, value: Node, *positions: Node) -> Node:
        """Rotary embedding, one step for each kind of positions."""
        for each in positions:
            value = g.like("rope", value, [value, each])
        return value

    def transformer(
        self, value: Node, tokens: int, norm: Norm, *, learned: Node | None = None, first_norm: bool = False,
        last_norm: bool = True, gated: bool = False, bias: bool = True, scaled: bool = False,
        bounded: bool = False, whole_norms: bool = False, head_norms: bool = False,
        norms_behind: bool = False, place: Callable[[Node], Node] | None = None,
    ) -> Node:  # fmt: skip
        """The layers of most encoders (`build_vit`).

        Args:
            value: the rows of all patches.
            tokens: rows of an image.
            norm: the kind of norm; `norm` has a bias.
            learned: embeddings of positions.
            first_norm: whether a norm comes before the first layer.
            last_norm: whether one follows the last layer.
            gated: whether networks are gated.
            bias: whether matrices have a bias.
            scaled: whether what attention and network give is scaled.
            bounded: whether what goes into a matrix and comes out of it is kept within limits.
            whole_norms: whether queries and keys are normed over all heads.
            head_norms: whether they are normed head by head, and values without factors.
            norms_behind: whether norms also follow attention and network.
            place: what gives queries and keys their positions.
        """
        width, inner = self.numbers.width, self.numbers.inner
        shifted = norm == "norm"
        if learned is not None:
            value = g.binary("add", value, learned)
        hidden = g.reshape(value, width, tokens * self.images)
        if first_norm:
            hidden = self.norm(hidden, norm, bias=shifted)
        for _ in range(self.numbers.layers):
            normed = self.norm(hidden, norm, bias=shifted)
            query, key, values = self.separate(normed, tokens, bias, bounded=bounded, whole_norms=whole_norms)
            if head_norms:
                query, key = self.norm(query, norm), self.norm(key, norm)
            if place is not None:
                query, key = place(query), place(key)
            if head_norms:
                values = self.norm(values, norm, factors=False)
            result = self.attend(query, key, values, bias=bias, bounded=bounded)
            hidden = g.binary("add", self._after(result, scaled, norms_behind), hidden)
            normed = self.norm(hidden, norm, bias=shifted)
            result = self.network(normed, inner, width, gated=gated, bias=bias, bounded=bounded)
            hidden = g.binary("add", hidden, self._after(result, scaled, norms_behind))
        if last_norm:
            hidden = self.norm(hidden, norm, bias=shifted)
        return g.reshape(hidden, width, tokens, self.images)

    def _after(self, value: Node, scaled: bool, normed: bool) -> Node:
        if scaled:
            value = g.binary("mul", value, self.row(self.numbers.width))
        return self.norm(value, "rms_norm") if normed else value

    # what follows the layers

    def shuffled(self, value: Node, side: int) -> Node:
        """Squares of patches as one row each (`build_patch_merge_permute`)."""
        width, across, down = value.ne[0], self.across, self.down
        more = -across % side, -down % side
        value = g.reshape(value, width, across, down)
        if any(more):
            across, down = across + more[0], down + more[1]
            value = g.fresh("pad", (width, across, down, 1), [value])
        value = g.permute(g.reshape(value, width * side, across // side, down), 0, 2, 1, 3)
        value = g.cont(value, width * side * side, down // side, across // side)
        value = g.permute(value, 0, 2, 1, 3)
        return g.cont(value, value.ne[0], value.ne[1] * value.ne[2])

    def pooled(self, value: Node, side: int) -> Node:
        """The mean of each square of patches."""
        width = self.numbers.width
        value = g.cont(g.transpose(value), self.across, self.down, width, self.images)
        across, down = self.across // side, self.down // side
        value = g.fresh("pool_2d", (across, down, width, self.images), [value])
        return g.cont(g.transpose(g.reshape(value, across * down, width, self.images)))
