"""Images for tests: good ones of every kind that is read, and the bytes to make bad ones of."""

from __future__ import annotations

import base64
import struct
import zlib

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_STEPS = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and steps, of the passes of an interlaced PNG."""

JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWG"
    "kJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKT/wAARCAAQABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAwAEBf/EABYQAQEBAAAAAAAA"
    "AAAAAAAAAAACA//EABcBAAMBAAAAAAAAAAAAAAAAAAIDBAX/xAAYEQADAQEAAAAAAAAAAAAAAAAAAgMBIf/aAAwDAQACEQMR"
    "AD8A4s5lnM05mnNUzgyoDOaa5zROuaC04f/Z"
)
"""24 × 16, baseline."""
PROGRESSIVE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWG"
    "kJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKT/wgARCAAQABgDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAAAgADBP/EABcBAAMBAAAAAAAA"
    "AAAAAAAAAAECAwT/2gAMAwEAAhADEAAAAeJN1AtpNH//xAAVEAEBAAAAAAAAAAAAAAAAAAAAEf/aAAgBAQABBQKIiIj/xAAW"
    "EQEBAQAAAAAAAAAAAAAAAAACAAH/2gAIAQMBAT8BKsV//8QAFhEBAQEAAAAAAAAAAAAAAAAAAAER/9oACAECAQE/AbWv/8QA"
    "FBABAAAAAAAAAAAAAAAAAAAAIP/aAAgBAQAGPwJf/8QAFRABAAAAAAAAAAAAAAAAAAAAAAH/2gAIAQEAAT8hhCEIQ//aAAwD"
    "AQACAAMAAAAQcw//xAAVEQEBAAAAAAAAAAAAAAAAAAAAIf/aAAgBAwEBPxBQf//EABURAQEAAAAAAAAAAAAAAAAAAAAB/9oA"
    "CAECAQE/EDX/xAAUEAEAAAAAAAAAAAAAAAAAAAAg/9oACAEBAAE/EEAB/9k="
)
"""The same, progressive."""
GIF = base64.b64decode("R0lGODdhAgACAIEAAAAAAAAAAAAAAAAAACwAAAAAAgACAAAIBgABCAQQEAA7")
WEBP = base64.b64decode("UklGRiQAAABXRUJQVlA4IBgAAAAwAQCdASoCAAIAAUAmJaQAA3AA/v02aAA=")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 2,
    interlaced: bool = False,
    data: bytes | None = None,
    before: bytes = b"",
) -> bytes:
    """Return a black PNG; `data` stand for its pixels, `before` goes in front of them."""
    raw = bytes(raw_size(width, height, depth, colour, interlaced)) if data is None else data
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
        + (chunk(b"PLTE", bytes(6)) if colour == 3 else b"")
        + before
        + chunk(b"IDAT", zlib.compress(raw, 9))
        + chunk(b"IEND", b"")
    )


def raw_size(width: int, height: int, depth: int, colour: int, interlaced: bool) -> int:
    """Return the bytes of a PNG's pixels before they are compressed."""
    sizes = [(width, height)]
    if interlaced:
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _STEPS]
    return sum(
        (-(-wide * CHANNELS[colour] * depth // 8) + 1) * high for wide, high in sizes if wide > 0 and high > 0
    )


def url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
