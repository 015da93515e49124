"""A projector's numbers, from the metadata of its GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.engine.metadata import Reader
from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Mapping

ARCHITECTURE = "clip"
"""What every projector's file gives as `general.architecture`."""
_LARGEST_IMAGE, _LARGEST_PATCH = 8192, 65_535
"""The engine refuses more."""
_MOST_LAYERS, _LARGEST_WIDTH = 1024, 2**20
"""Beyond all that is known, so that counting stays quick."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the graph and the size of an image follow from."""

    kind: str
    """The engine's name of the projector's type."""
    width: int
    inner: int
    layers: int
    heads: int
    head: int
    image: int
    """Pixels of a side, where the type has one size; else of the images that it learned from."""
    patch: int
    merge: int
    """Patches of a side that become one token; 0 where the type's own default holds."""
    text: int
    """The text model's width."""
    min_pixels: int
    max_pixels: int
    longest_edge: int
    max_tiles: int
    window_pattern: int
    """Every how many layers attention sees the whole image; 0 where all of them do."""
    deep_layers: tuple[int, ...]
    """Layers whose results go to the text model as well."""
    feature_layers: tuple[int, ...]
    pinpoints: tuple[int, ...]
    """Widths and heights that an image may be scaled to, by turns."""


def kind_of(metadata: Mapping[str, Any], sense: str = "vision") -> str:
    """The engine's name of the type of the encoder for images, or for `audio`; empty where there is none."""
    reader = _reader(metadata)
    own = reader.text(f"{sense}.projector_type")
    return (reader.text("projector_type") or own) if sense == "vision" else own


def read(metadata: Mapping[str, Any], *, bare: bool = False) -> Numbers:
    """Read the numbers; `bare` projectors have no layers. What else a type needs is its own affair."""
    reader = _reader(metadata)
    layers = 0 if bare else _positive(reader, "vision.block_count", _MOST_LAYERS)
    heads = 1 if bare else _positive(reader, "vision.attention.head_count")
    width = _positive(reader, "vision.embedding_length")
    patch = _positive(reader, "vision.patch_size", _LARGEST_PATCH)
    merges = ("vision.spatial_merge_size", "vision.projector.scale_factor")
    deep = reader.array("vision.is_deepstack_layers") or ()
    head = reader.integer("vision.attention.head_dim", 0) or width // heads
    if not 0 < head <= _LARGEST_WIDTH:
        raise InvalidGguf(f"{ARCHITECTURE}.vision.attention.head_count is {heads}: the width is {width}")
    return Numbers(
        kind=kind_of(metadata),
        width=width,
        inner=min(reader.integer("vision.feed_forward_length", 0), _LARGEST_WIDTH),
        layers=layers,
        heads=heads,
        head=head,
        image=_positive(reader, "vision.image_size", _LARGEST_IMAGE),
        patch=patch,
        merge=next((reader.integer(key, 0) for key in merges if reader.has(key)), 0),
        text=_positive(reader, "vision.projection_dim"),
        min_pixels=reader.integer("vision.image_min_pixels", 0),
        max_pixels=reader.integer("vision.image_max_pixels", 0),
        longest_edge=reader.integer("vision.preproc_image_size", 0),
        max_tiles=reader.integer("vision.preproc_max_tiles", 0),
        window_pattern=reader.integer("vision.n_wa_pattern", 0),
        deep_layers=tuple(layer for layer, is_deep in enumerate(deep) if is_deep),
        feature_layers=reader.array("vision.feature_layer") or (),
        pinpoints=reader.array("vision.image_grid_pinpoints") or (),
    )


def _reader(metadata: Mapping[str, Any]) -> Reader:
    reader = Reader(metadata)
    if reader.architecture != ARCHITECTURE:
        raise InvalidGguf(
            f"general.architecture is {reader.architecture!r}, but a projector's (mmproj) is {ARCHITECTURE!r}"
        )
    return reader


def _positive(reader: Reader, key: str, most: int = _LARGEST_WIDTH) -> int:
    value = reader.integer(key)
    if not 0 < value <= most:
        raise InvalidGguf(f"{ARCHITECTURE}.{key} is {value}: it lies between 1 and {most}")
    return value
