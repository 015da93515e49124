"""The graphs of each type of projector, as the engine builds them for an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine import graph as g
from berth.engine.graph import F16, F32, I32, Node
from berth.engine.projectors.encoder import COLOURS

if TYPE_CHECKING:
    from berth.engine.projectors.encoder import Encoder

_FRAMES, _SAMPLES = 3000, 640
"""The length of the sound that the engine reserves for, and the samples of a frame of Gemma 4 12B."""
_LARGE_INTERNVL = (3200, 45)
"""Width and layers of InternVL's encoder of six billion parameters, whose norms are of another kind."""


def _positions(build: Encoder, count: int) -> Node:
    """Embeddings of positions as the file has them."""
    return build.weight(build.numbers.width, count, kind=F32)


def _resized(build: Encoder) -> Node:
    """Embeddings of positions, scaled to the image (`resize_position_embeddings`)."""
    numbers, across, down = build.numbers, build.across, build.down
    side = numbers.image // numbers.patch
    value = _positions(build, side * side)
    if across == down == side:
        return value
    value = g.permute(g.reshape(value, numbers.width, side, side), 2, 0, 1, 3)
    value = g.permute(g.fresh("upscale", (across, down, numbers.width, 1), [value]), 1, 2, 0, 3)
    return g.cont(value, numbers.width, across * down)


def gemma3(build: Encoder) -> Node:
    """Gemma 3: SigLIP, pooled to a fixed number of tokens."""
    numbers = build.numbers
    value = build.transformer(
        build.embedded(), build.patches, "norm", learned=_positions(build, build.patches)
    )
    value = build.norm(build.pooled(value, numbers.merge), "rms_norm")
    matrix = build.weight(numbers.text, numbers.width)
    return g.mul_mat(g.cont(g.transpose(matrix)), value)


def idefics3(build: Encoder) -> Node:
    """Idefics 3 and SmolVLM: SigLIP on tiles, squares of patches as one token."""
    value = build.transformer(
        build.embedded(), build.patches, "norm", learned=_positions(build, build.patches)
    )
    return build.product(build.shuffled(value, build.numbers.merge), build.numbers.text)


def pixtral(build: Encoder) -> Node:
    """Pixtral, and Mistral Small 3.1 and Ministral 3, which merge patches; a mark ends each row of tokens."""
    numbers, merge = build.numbers, build.numbers.merge
    down, across = build.given(I32, build.patches), build.given(I32, build.patches)
    value = build.transformer(
        build.embedded(bias=False), build.patches, "rms_norm", first_norm=True, last_norm=False, gated=True,
        bias=False, place=lambda part: build.rope(part, down, across),
    )  # fmt: skip
    if merge > 1:
        value = build.norm(value, "rms_norm")
        value = g.reshape(value, numbers.width, build.across, build.down)
        value = g.cont(g.permute(value, 2, 0, 1, 3))
        kernel = g.view(value, (merge, merge, value.ne[2]), (0, 0))
        shape = (merge * merge * numbers.width, build.across // merge, build.down // merge, 1)
        value = build.on_host(g.fresh("im2col", shape, [kernel, value]))
        value = build.product(g.reshape(value, shape[0], shape[1] * shape[2]), numbers.width)
    value = build.network(value, numbers.text, numbers.text)
    columns, rows = build.across // merge, build.down // merge
    ends = g.unary(g.leaf(F32, numbers.text, 1, rows), "scale")
    ends = g.binary("add", ends, build.row(numbers.text))
    value = g.concat(g.reshape(value, numbers.text, columns, rows), ends, 1)
    return g.view(value, (numbers.text, columns * rows + rows - 1), (4 * numbers.text,))


def _interleaved(build: Encoder, value: Node) -> Node:
    """Four patches that become one token, one after the other."""
    width, across, down = build.numbers.width, build.across, build.down
    value = g.cont(value, 2 * width, across // 2, down)
    value = g.permute(g.reshape(value, 2 * width, across // 2, 2, down // 2), 0, 2, 1, 3)
    return g.cont(value, width, across * down)


def _two_frames(build: Encoder) -> Node:
    """Patches as two frames of a film see them, which for an image are the same."""
    numbers, pixels = build.numbers, build.pixels()
    first, second = (build.convolution(pixels, numbers.patch, 3, numbers.width) for _ in range(2))
    return _interleaved(build, g.permute(g.binary("add", first, second), 1, 2, 0, 3))


def qwen2vl(build: Encoder) -> Node:
    """Qwen2-VL and Qwen2.5-VL; in most layers of the latter patches attend within windows."""
    numbers, patches, width = build.numbers, build.patches, build.numbers.width
    newer = numbers.window_pattern > 0
    hidden = _two_frames(build)
    positions = build.given(I32, 4 * patches)
    mask = None
    if newer:
        order, mask = build.given(I32, patches // 4), build.given(F32, patches, patches)
        if build.flash:
            mask = g.cast(mask, F16)
        hidden = g.get_rows(g.reshape(hidden, 4 * width, patches // 4), order)
        hidden = g.reshape(hidden, width, patches)
    for layer in range(numbers.layers):
        normed = build.norm(hidden, "rms_norm" if newer else "norm", bias=not newer)
        query, key, value = build.separate(normed, patches)
        query, key = build.rope(query, positions), build.rope(key, positions)
        everywhere = not newer or (layer + 1) % numbers.window_pattern == 0
        value = build.attend(query, key, value, mask=None if everywhere else mask)
        hidden = g.binary("add", value, hidden)
        normed = build.norm(hidden, "rms_norm" if newer else "norm", bias=not newer)
        hidden = g.binary("add", hidden, build.network(normed, numbers.inner, width, gated=newer))
    hidden = build.norm(hidden, "rms_norm" if newer else "norm", bias=not newer)
    value = build.network(g.reshape(hidden, 4 * width, patches // 4), 4 * width, numbers.text)
    return g.get_rows(value, build.given(I32, patches // 4)) if newer else value


def qwen3vl(build: Encoder) -> Node:
    """Qwen3-VL and Qwen3.5: some layers' results go to the text model as well."""
    numbers, patches, width = build.numbers, build.patches, build.numbers.width
    hidden = g.binary("add", _two_frames(build), build.row(width))
    hidden = g.binary("add", hidden, _interleaved(build, _resized(build)))
    positions = build.given(I32, 4 * patches)
    deep: Node | None = None
    for layer in range(numbers.layers):
        query, key, value = build.fused(build.norm(hidden, "norm", bias=True), patches)
        query, key = build.rope(query, positions), build.rope(key, positions)
        hidden = g.binary("add", build.attend(query, key, value), hidden)
        normed = build.norm(hidden, "norm", bias=True)
        hidden = g.binary("add", hidden, build.network(normed, numbers.inner, width))
        if layer in numbers.deep_layers:
            feature = build.norm(g.reshape(hidden, 4 * width, patches // 4), "norm", bias=True)
            feature = build.network(feature, 4 * width, numbers.text)
            deep = feature if deep is None else g.concat(deep, feature, 0)
    hidden = build.norm(hidden, "norm", bias=True)
    value = build.network(g.reshape(hidden, 4 * width, patches // 4), 4 * width, numbers.text)
    return value if deep is None else g.concat(value, deep, 0)


def internvl(build: Encoder) -> Node:
    """InternVL: tiles, several at once, each with a token of its class that is dropped at the end."""
    numbers, images, merge = build.numbers, build.images, build.numbers.merge
    large = (numbers.width, numbers.layers) == _LARGE_INTERNVL
    value = build.embedded()
    value = g.concat(value, g.repeat(build.row(numbers.width), numbers.width, 1, images), 1)
    tokens = build.patches + 1
    value = build.transformer(
        value, tokens, "rms_norm" if large else "norm", learned=_positions(build, tokens), last_norm=False,
        scaled=True, whole_norms=large,
    )  # fmt: skip
    value = g.cont(g.view(value, (numbers.width, build.patches, images), value.nb[1:3]))
    across, down, wide = build.across // merge, build.down // merge, numbers.width * merge
    value = g.permute(g.reshape(value, wide, down, build.across, images), 0, 2, 1, 3)
    wide *= merge
    value = g.permute(g.cont(value, wide, down, across, images), 0, 2, 1, 3)
    value = g.cont(value, wide, across * down, images)
    return build.network(build.norm(value, "norm", bias=True), numbers.text, numbers.text)


def llava(build: Encoder) -> Node:
    """LLaVA and Granite Vision: CLIP or SigLIP without its last layer, then two matrices."""
    numbers = build.numbers
    tokens = build.patches + 1
    value = g.concat(build.embedded(), build.row(numbers.width), 1)
    looked_up = g.get_rows(_positions(build, tokens), build.given(I32, tokens))
    hidden = build.norm(g.binary("add", value, looked_up), "norm", bias=True)
    wanted = numbers.feature_layers
    depth = max(wanted, default=numbers.layers - 1)
    kept = []
    for layer in range(depth):
        if layer in wanted:
            kept.append(hidden)
        query, key, value = build.separate(build.norm(hidden, "norm", bias=True), tokens)
        hidden = g.binary("add", build.attend(query, key, value), hidden)
        normed = build.norm(hidden, "norm", bias=True)
        hidden = g.binary("add", hidden, build.network(normed, numbers.inner, numbers.width))
    hidden = build.norm(hidden, "norm", bias=True)
    if depth in wanted:
        kept.append(hidden)
    value = kept[0] if kept else hidden
    for other in kept[1:]:
        value = g.concat(value, other, 0)
    value = g.reshape(value, value.ne[0], value.ne[1])
    value = g.get_rows(value, build.given(I32, build.patches))
    return build.network(value, numbers.text, numbers.text)


def _looked_up(build: Encoder, value: Node) -> Node:
    """Embeddings of columns and rows, added one after the other."""
    width = build.numbers.width
    across, down = build.given(I32, build.patches), build.given(I32, build.patches)
    table = build.weight(width, build.patches, 2, kind=F32)
    for where in (across, down):
        rows = g.view(table, (width, build.patches), table.nb[1:2])
        value = g.binary("add", value, g.get_rows(rows, where))
    return value


def gemma4uv(build: Encoder) -> Node:
    """Gemma 4 12B: no encoder, only norms around a matrix of patches."""
    numbers, pixels = build.numbers, build.pixels()
    length = numbers.patch * numbers.patch * COLOURS
    window = g.leaf(F32, numbers.patch, numbers.patch, COLOURS)
    value = g.fresh("im2col", (length, build.across, build.down, 1), [window, pixels])
    value = build.norm(g.reshape(value, length, build.patches), "norm", bias=True)
    value = build.norm(build.linear(value, numbers.width), "norm", bias=True)
    value = build.norm(_looked_up(build, value), "norm", bias=True)
    return build.product(build.norm(value, "rms_norm", factors=False), numbers.text)


def gemma4ua(build: Encoder) -> Node:
    """The sounds of Gemma 4 12B, as the engine reserves for them: frames straight to a matrix."""
    frames = build.given(F32, _FRAMES, _SAMPLES, 1, 1)
    value = g.cont(g.permute(frames, 1, 0, 2, 3))
    return build.product(build.norm(value, "rms_norm", factors=False), build.numbers.text)


def gemma4v(build: Encoder) -> Node:
    """Gemma 4: norms around attention and network and on every head, bounds around every product."""
    numbers = build.numbers
    pixels = g.unary(build.pixels(), "scale")
    value = build.embedded(bias=False, pixels=pixels)
    across, down = build.given(I32, build.patches), build.given(I32, build.patches)
    table = build.weight(numbers.width, build.patches, 2, kind=F32)
    for where in (across, down):
        rows = g.view(table, (numbers.width, build.patches), table.nb[1:2])
        value = g.binary("add", value, g.get_rows(rows, where))
    value = build.transformer(
        value, build.patches, "rms_norm", last_norm=False, gated=True, bias=False, bounded=True,
        head_norms=True, norms_behind=True, place=lambda part: build.rope(part, across, down),
    )  # fmt: skip
    value = g.unary(build.pooled(value, numbers.merge), "scale")
    value = g.binary("sub", value, build.row(numbers.width))
    value = g.binary("mul", value, build.row(numbers.width))
    return build.product(build.norm(value, "rms_norm", factors=False), numbers.text, bounded=True)


def kimivl(build: Encoder) -> Node:
    """Kimi-VL: positions both added and rotated into, squares of patches as one token."""
    numbers = build.numbers
    down, across = build.given(I32, build.patches), build.given(I32, build.patches)
    value = build.transformer(
        build.embedded(), build.patches, "norm", learned=_resized(build),
        place=lambda part: build.rope(part, across, down),
    )  # fmt: skip
    value = build.shuffled(value, numbers.merge)
    wide, tokens = value.ne[0], value.ne[1]
    value = g.view(value, (numbers.width, tokens * numbers.merge**2), (4 * numbers.width,))
    value = build.norm(value, "norm", bias=True)
    value = g.view(value, (wide, tokens), (4 * wide,))
    return build.network(value, wide, numbers.text)


def llama4(build: Encoder) -> Node:
    """Llama 4: tiles with a token of their class, positions both added and rotated into."""
    numbers, merge, patch = build.numbers, build.numbers.merge, build.numbers.patch
    tokens = build.patches + 1
    down, across = build.given(I32, tokens), build.given(I32, tokens)
    kernel = build.weight(3 * patch * patch, numbers.width)
    shape = (3 * patch * patch, build.across, build.down, 1)
    window = g.reshape(kernel, patch, patch, 3, numbers.width)
    value = g.mul_mat(kernel, g.fresh("im2col", shape, [window, build.pixels()]))
    value = g.reshape(value, numbers.width, build.patches)
    value = g.concat(value, build.row(numbers.width), 1)
    value = build.transformer(
        value, tokens, "norm", learned=_positions(build, tokens), first_norm=True,
        place=lambda part: build.rope(part, across, down),
    )  # fmt: skip
    value = g.view(value, (numbers.width, build.patches), (4 * numbers.width,))
    wide = numbers.width * merge
    value = g.permute(g.reshape(value, wide, build.across // merge, build.down), 0, 2, 1, 3)
    wide *= merge
    value = g.cont(value, wide, build.across // merge, build.down // merge)
    value = g.cont(value, wide, build.patches // merge // merge)
    value = g.unary(build.product(value, numbers.inner))
    return build.product(g.unary(build.product(value, numbers.inner)), numbers.text)
