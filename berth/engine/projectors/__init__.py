"""What a projector (`mmproj`) takes, with which a model sees images.

The engine keeps its weights on the first GPU and computes there, in a buffer of its own that grows with the
image: at start it is made for a small one, so that the largest is what counts. The graph of that image is
replayed as those of text models are (`berth.engine.replay`), layer by layer.

What CUDA does otherwise than the devices that this is compared with, after the engine's source:

* Two steps have no kernel there, so that they and their results are the host's, with copies there and back:
  fused attention of heads that are not of 40, 64, 72, 80, 96, 112, 128 or 256 numbers (Llama 4 has 88), and
  the step with which Pixtral merges patches. `memory` counts the larger of both ways.
* For all else the host holds what the engine writes itself: pixels, positions, masks.
* The projector computes beside the text model with a pool and a workspace of its own
  (`berth.engine.projectors.cuda`); the context of the process is the text model's.
* Tensors are aligned to 128 bytes instead of 32, and rows of 8-bit weights are filled up: both are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from berth.engine.projectors import kinds, tiles
from berth.engine.projectors.cuda import pool_of
from berth.engine.projectors.encoder import COLOURS, Encoder
from berth.engine.projectors.numbers import Numbers, kind_of, read
from berth.engine.projectors.sizes import BATCH_TOKENS, Grid, Kind, batches, grids, widest
from berth.engine.scheduler import buffer_sizes
from berth.errors import InvalidGguf, InvalidSettings, UnknownProjector
from berth.images import MAX_IMAGES, MAX_REQUEST_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from berth.engine.graph import Node

__all__ = ["BATCH_TOKENS", "KNOWN", "Projector", "ProjectorMemory", "buffers", "parse"]

_CAUSAL_GEMMA4 = (1536, 2560)
"""Widths of the Gemma 4 models (E2B and E4B) that read images as they read text."""

KINDS: dict[str, Kind] = {
    "gemma3": Kind(kinds.gemma3, merge=4, whole=lambda numbers: True),
    "gemma4v": Kind(
        kinds.gemma4v, merge=3, least=70, most=1120, batches=True,
        whole=lambda numbers: numbers.text not in _CAUSAL_GEMMA4,
    ),
    "gemma4uv": Kind(
        kinds.gemma4uv, merge=3, least=70, most=1120, bare=True, sounds=("gemma4ua", kinds.gemma4ua),
        whole=lambda numbers: True,
    ),
    "idefics3": Kind(kinds.idefics3, pieces=tiles.idefics3, around=8),
    "internvl": Kind(kinds.internvl, pieces=tiles.internvl, batches=True),
    "kimivl": Kind(kinds.kimivl, least=8, most=1024),
    "llama4": Kind(kinds.llama4, pieces=tiles.llama4),
    "mlp": Kind(kinds.llava, pieces=tiles.llava),
    "pixtral": Kind(kinds.pixtral, least=8, most=1024, tokens=tiles.pixtral),
    "qwen2vl_merger": Kind(kinds.qwen2vl, merge=2, least=8, most=4096, inner=4),
    "qwen2.5vl_merger": Kind(kinds.qwen2vl, merge=2, least=8, most=4096),
    "qwen3vl_merger": Kind(kinds.qwen3vl, merge=2, least=8, most=4096),
}  # fmt: skip
"""By the engine's name of the type."""
KNOWN = tuple(sorted(KINDS))

_ALIGNMENT, _CUDA_ALIGNMENT = 32, 128
_COPIES = 3
"""Of scaled images: as they are made, in the request's parts, and in its task, with what a heap wastes."""
_ROUNDED_UP = 9
"""Eighths of their own pixels that images have after their sides were rounded to whole tokens."""
_TENSORS_A_LAYER, _TENSORS = 20, 64
_ROW_PADDING = 544
"""CUDA's of a tensor of 8 bits, whose rows it fills up to 512 numbers."""


@dataclass(frozen=True, slots=True)
class ProjectorMemory:
    """What a projector takes, in bytes: on the first GPU, and in the node's memory."""

    weights: int
    compute: int
    host: int
    pool: int = 0
    """Of CUDA, beside the buffers that the engine tells; estimated."""


@dataclass(frozen=True, slots=True)
class Projector:
    """A projector, as far as memory and tokens go."""

    numbers: Numbers
    kind: Kind
    sounds: bool = False
    """Whether the file also holds an encoder for sounds, for which the engine reserves at start."""

    @property
    def dynamic(self) -> bool:
        """Whether images keep their proportions, so that a bound on their tokens means something."""
        return bool(self.kind.most)

    @property
    def least_tokens(self) -> int:
        """The smallest bound on an image's tokens that the engine takes."""
        return self.kind.least

    def image_tokens(self, max_tokens: int | None = None) -> int:
        """The most tokens that one image takes of a slot's context, with what stands around it."""
        kind, numbers = self.kind, self.numbers
        tokens = max(kind.tokens(numbers, grid) for grid in grids(kind, numbers, self._most(max_tokens)))
        return kind.pieces(numbers) * (tokens + kind.around)

    def whole_image(self, max_tokens: int | None = None) -> int:
        """The tokens that the text model must be able to compute at once; 0 where it reads images in parts.

        The engine aborts where `--ubatch-size` or `--batch-size` is smaller.
        """
        kind, numbers = self.kind, self.numbers
        if not kind.whole(numbers):
            return 0
        return max(kind.tokens(numbers, grid) for grid in grids(kind, numbers, self._most(max_tokens)))

    def request_bytes(self, max_tokens: int | None = None) -> int:
        """Bytes of host memory for the images of one request, between being decoded and being computed.

        The engine scales all of them before it looks at the first, as numbers of four bytes, and copies them
        on the way; it does so also for a request that it then refuses as too long.
        """
        kind, numbers = self.kind, self.numbers
        area = numbers.patch**2
        largest = max(across * down for across, down in grids(kind, numbers, self._most(max_tokens))) * area
        pixels = MAX_IMAGES * kind.pieces(numbers) * largest
        if self.dynamic:
            least = MAX_IMAGES * 4 * kind.least * numbers.merge**2 * area
            pixels = min(pixels, MAX_REQUEST_PIXELS * _ROUNDED_UP // 8 + least)
        return pixels * COLOURS * 4 * _COPIES

    def memory(
        self, size: int, max_tokens: int | None = None, *, gpus: int = 1, flash_attention: bool = True
    ) -> ProjectorMemory:
        """What it takes while it sees the largest image.

        Args:
            size: bytes of the file, of which all but the header are weights.
            max_tokens: the bound on an image's tokens, the type's own where there is none.
            gpus: of the server; without any the host computes, and its memory is counted as `compute`.
            flash_attention: the server's.

        Raises:
            InvalidSettings: the engine would not take the bound.
        """
        compute, host, pool = _compute(self, self._most(max_tokens), gpus > 0, flash_attention)
        tensors = _TENSORS_A_LAYER * self.numbers.layers + _TENSORS
        more = _CUDA_ALIGNMENT - _ALIGNMENT + _ROW_PADDING if gpus else 0
        return ProjectorMemory(size + more * tensors, compute, host, pool if gpus else 0)

    def _most(self, max_tokens: int | None) -> int:
        if max_tokens is None:
            return self.kind.most
        if not self.dynamic:
            raise InvalidSettings(
                f"a bound on an image's tokens is given, but {self.numbers.kind} scales all to one size"
            )
        if max_tokens < self.least_tokens:
            raise InvalidSettings(
                f"an image has {max_tokens} tokens at most, but {self.numbers.kind} needs "
                f"{self.least_tokens} or more"
            )
        return max_tokens


def parse(metadata: Mapping[str, Any]) -> Projector:
    """A projector from the metadata of its file.

    Raises:
        UnknownProjector: there is no memory model of its type, or it takes sounds.
        InvalidGguf: its numbers make no sense.
    """
    name = kind_of(metadata)
    kind = KINDS.get(name)
    if kind is None:
        raise UnknownProjector(
            f"there is no memory model of the projector {name!r}; known are: {', '.join(KNOWN)}"
        )
    sounds = bool(metadata.get("clip.has_audio_encoder"))
    if sounds and (kind.sounds is None or kind.sounds[0] != kind_of(metadata, "audio")):
        raise UnknownProjector(
            "the file also holds an encoder for sounds, which no plan counts; one for images alone is counted"
        )
    numbers = read(metadata, bare=kind.bare)
    merge = numbers.merge or kind.merge
    numbers = replace(numbers, merge=merge, inner=kind.inner * numbers.width or numbers.inner)
    if kind.bare:
        numbers = replace(numbers, patch=numbers.patch * merge, merge=1)
    elif not numbers.inner:
        raise InvalidGguf("clip.vision.feed_forward_length is 0")
    if numbers.image < numbers.patch * numbers.merge:
        raise InvalidGguf(f"clip.vision.image_size is {numbers.image}: that is less than one token")
    return Projector(numbers, kind, sounds)


@lru_cache(maxsize=1_024)
def _compute(projector: Projector, most: int, gpu: bool, flash: bool) -> tuple[int, int, int]:
    """The most of the buffers on the GPU and on the host, and of CUDA's pool."""
    kind, numbers = projector.kind, projector.numbers
    found = [
        _measured(projector, grid, images, gpu, flash, cuda=cuda)
        for images, tokens in batches(kind, numbers, most)
        for grid in widest(kind, numbers, tokens)
        for cuda in ((False, True) if gpu else (False,))
        if images == 1 or images * kind.tokens(numbers, grid) <= BATCH_TOKENS
    ]
    compute, host, pool = map(max, zip(*found, strict=True))
    if projector.sounds and kind.sounds is not None:
        more = _reserved(Encoder(numbers, 1, 1), kind.sounds[1], gpu)
        compute, host = compute + more[0], host + more[1]
    return compute, host, pool


def buffers(
    projector: Projector, grid: Grid, images: int = 1, *, gpu: bool = True, flash_attention: bool = True,
    cuda: bool = False,
) -> tuple[int, int]:  # fmt: skip
    """The compute buffers of the GPU and of the host for images of one size, in patches across and down.

    Without a GPU the first is the host's, and the second is empty; with one it has every step, unless it is
    CUDA's.
    """
    return _measured(projector, grid, images, gpu, flash_attention, cuda=cuda)[:2]


def _measured(
    projector: Projector, grid: Grid, images: int, gpu: bool, flash: bool, *, cuda: bool = False
) -> tuple[int, int, int]:
    build = Encoder(projector.numbers, *grid, images, flash=flash, cuda=cuda)
    return _reserved(build, projector.kind.build, gpu)


def _reserved(build: Encoder, make: Callable[[Encoder], Node], gpu: bool) -> tuple[int, int, int]:
    try:
        build.expand(make(build))
    except (ArithmeticError, IndexError, ValueError) as error:
        raise InvalidGguf(f"the numbers of this {build.numbers.kind} do not fit each other") from error
    pool = pool_of(build.graph.nodes)
    first = _CUDA_ALIGNMENT if build.cuda else _ALIGNMENT
    sizes, _ = buffer_sizes(build.graph, [first, _ALIGNMENT] if gpu else [_ALIGNMENT])
    return sizes[0], sizes[1] if gpu else 0, pool
