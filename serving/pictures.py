"""What an image's bytes will become once the engine decodes them, found without decoding it.

Two formats alone, read as strictly as the engine's own decoder (stb_image) or more so. A reader that is more
lenient than the decoder could be shown one size and the engine another. A PNG's compressed data are counted
as well: the decoder inflates them whole, however few pixels the header promises.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth.images import MAX_IMAGE_PIXELS, MAX_RATIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_KNOWN_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By a PNG's type of colour."""
_FRAMES = (0xC0, 0xC1, 0xC2)
"""JPEG's baseline, extended and progressive frames; the engine decodes no other."""
_TABLES = (0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))
_MAX_SCANS = 100
"""Of a JPEG: each costs a pass over all pixels, however little data it has. Usual are 1 and 10."""
_PIECE = 2**14
"""Bytes of compressed data at a time, which become at most a thousand times as many."""


class BadPicture(Exception):
    """The image isn't passed on; the text says what it is or has."""


@dataclass(frozen=True)
class Picture:
    """An image that the engine may decode. `cost` is its pixels, those of 16-bit channels counted twice."""

    format: str
    width: int
    height: int
    cost: int


def look(content: bytes) -> Picture:
    """Return what an image is.

    Raises:
        BadPicture: it is neither PNG nor JPEG, is broken, or has more pixels than are taken.
    """
    if content.startswith(_PNG):
        return _png(content)
    if content.startswith(_JPEG):
        return _jpeg(content)
    raise BadPicture("is neither PNG nor JPEG, which are the formats that are read here")


def _png(content: bytes) -> Picture:
    chunks = _chunks(content)
    name, header = next(chunks, (b"", b""))
    if name != b"IHDR" or len(header) != 13:
        raise BadPicture("is a broken PNG: it does not begin with a header")
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS or depth not in (1, 2, 4, 8, 16) or interlaced > 1:
        raise BadPicture("is a broken PNG: its header says what the format does not know")
    found = _bounded("PNG", width, height, 2 if depth == 16 else 1)
    line = (width * depth + 7) // 8 * _CHANNELS[colour] + 1
    # Seven interlaced passes round up and filter each of their own lines.
    most = line * height + (16 * (width + height + 8) if interlaced else 0)
    _inflate((data for name, data in chunks if name == b"IDAT"), most)
    return found


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield names and data of a PNG's chunks, the last one included."""
    view, at = memoryview(content), len(_PNG)
    while at + 12 <= len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        if name[0] < ord("a") and name not in _KNOWN_CHUNKS:
            raise BadPicture("is a PNG with a chunk that is not of the format")
        if at + 12 + size > len(content):
            break
        yield name, view[at + 8 : at + 8 + size]
        if name == b"IEND":
            return
        at += 12 + size
    raise BadPicture("is a broken PNG: it ends in the middle")


def _inflate(chunks: Iterator[memoryview], most: int) -> None:
    """Count the bytes that the data become, and stop at the first one too many."""
    stream, size = zlib.decompressobj(), 0
    try:
        for piece in (chunk[at : at + _PIECE] for chunk in chunks for at in range(0, len(chunk), _PIECE)):
            if stream.eof:
                continue  # the decoder passes over what comes behind the end, too
            size += len(stream.decompress(piece, most - size + 1))
            if size > most:
                raise BadPicture("is a PNG with more data than its pixels need")
    except zlib.error:
        raise BadPicture("is a broken PNG: its data are not what they should be") from None
    if not stream.eof:
        raise BadPicture("is a broken PNG: its data end in the middle")


def _jpeg(content: bytes) -> Picture:
    at = len(_JPEG)
    while True:
        if content[at : at + 1] != b"\xff":
            raise BadPicture("is a broken JPEG: a marker is missing")
        while content[at : at + 1] == b"\xff":
            at += 1
        if len(content) < at + 8:
            raise BadPicture("is a broken JPEG: it ends in its header")
        marker = content[at]
        (size,) = struct.unpack_from(">H", content, at + 1)
        if marker in _FRAMES:
            break
        if marker not in _TABLES or size < 2:
            raise BadPicture("is a JPEG of a kind that is not read here")
        at += 1 + size
    depth, height, width = struct.unpack_from(">BHH", content, at + 3)
    if depth != 8:
        raise BadPicture(f"is a JPEG of {depth} bits; 8 are read here")
    if content.count(b"\xff\xda") > _MAX_SCANS:
        raise BadPicture(f"is a JPEG of more than {_MAX_SCANS} scans")
    return _bounded("JPEG", width, height, 1)


def _bounded(kind: str, width: int, height: int, factor: int) -> Picture:
    if not width or not height:
        raise BadPicture(f"is a broken {kind}: it has no pixels")
    if width * height * factor > MAX_IMAGE_PIXELS:
        wide = " of 16-bit channels, which count twice" if factor > 1 else ""
        raise BadPicture(
            f"has {width} × {height} pixels{wide}; at most {MAX_IMAGE_PIXELS} are taken: make it smaller"
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadPicture(
            f"has {width} × {height} pixels; no side may be more than {MAX_RATIO} times the other: "
            "cut it into pieces"
        )
    return Picture(kind, width, height, width * height * factor)
