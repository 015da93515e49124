"""What the engine's decoder would make of an image is known before it sees it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth.images import (
    MAX_BODY_BYTES,
    MAX_HELD_BYTES,
    MAX_IMAGE_PIXELS,
    MAX_IMAGES,
    MAX_RATIO,
    MAX_REQUEST_PIXELS,
)
from serving.pictures import BadPicture, Picture, look
from tests.serving import pngs

SIDE = 4096


@pytest.mark.parametrize("interlaced", [False, True], ids=["in order", "interlaced"])
@pytest.mark.parametrize(
    ("colour", "depth"),
    [
        (0, 1),
        (0, 2),
        (0, 4),
        (0, 8),
        (0, 16),
        (2, 8),
        (2, 16),
        (3, 1),
        (3, 8),
        (4, 8),
        (4, 16),
        (6, 8),
        (6, 16),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (61, 47), (200, 2)])
def test_a_png_of_every_kind_is_read(
    width: int, height: int, colour: int, depth: int, interlaced: bool
) -> None:
    content = pngs.png(width, height, depth=depth, colour=colour, interlaced=interlaced)
    cost = width * height * (2 if depth == 16 else 1)
    assert look(content) == Picture("PNG", width, height, cost)


@pytest.mark.parametrize("content", [pngs.JPEG, pngs.PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_jpeg_is_read(content: bytes) -> None:
    assert look(content) == Picture("JPEG", 24, 16, 24 * 16)


def test_what_stands_before_a_jpegs_frame_is_passed_over() -> None:
    segment = b"\xff\xe1" + struct.pack(">H", 60002) + b"\xff\xc0" * 30000
    assert look(pngs.JPEG[:2] + segment * 20 + pngs.JPEG[2:]).width == 24


def frame(height: int, width: int, kind: int = 0xC0, depth: int = 8) -> bytes:
    return struct.pack(">BBHBHHB", 0xFF, kind, 17, depth, height, width, 3) + bytes(9)


def header(width: int, height: int, depth: int = 8) -> bytes:
    """The largest image is as dear as its header; what follows does not matter."""
    return pngs.png(width, height, data=b"", depth=depth)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(header(SIDE, SIDE + 1), "4096 × 4097 pixels; at most 16777216 are taken", id="large"),
        pytest.param(header(2**31, 2**31), "make it smaller", id="as large as a header can say"),
        pytest.param(header(SIDE, SIDE, depth=16), "which count twice", id="of 16-bit channels"),
        pytest.param(b"\xff\xd8" + frame(65535, 65535), "65535 × 65535 pixels", id="a large JPEG"),
        pytest.param(header(1, MAX_RATIO + 1), "no side may be more than 100 times", id="a line"),
        pytest.param(header(0, 4), "has no pixels", id="no width"),
        pytest.param(b"\xff\xd8" + frame(0, 4), "has no pixels", id="a JPEG that tells its height later"),
        pytest.param(pngs.GIF, "neither PNG nor JPEG", id="a GIF"),
        pytest.param(pngs.WEBP, "neither PNG nor JPEG", id="a WebP"),
        pytest.param(b"", "neither PNG nor JPEG", id="nothing"),
        pytest.param(b"RIFF\0\0\0\0WAVE", "neither PNG nor JPEG", id="a sound"),
        pytest.param(
            pngs.png(1, 1, data=bytes(10**6)), "more data than its pixels need", id="a pixel that unfolds"
        ),
        pytest.param(pngs.png(9, 9, data=bytes(8)).replace(b"IDAT", b"IDAx"), "a chunk that", id="odd chunk"),
        pytest.param(pngs.png(9, 9, before=pngs.chunk(b"CgBI", b"")), "a chunk that", id="Apple's PNG"),
        pytest.param(pngs.png(9, 9)[:60], "ends in the middle", id="a PNG that is cut"),
        pytest.param(
            pngs.png(9, 9).replace(b"IHDR", b"tEXt"), "begin with a header", id="a PNG without header"
        ),
        pytest.param(pngs.png(9, 9, before=pngs.chunk(b"IDAT", b"abc")), "not what they", id="bad data"),
        pytest.param(pngs.png(9, 9, depth=3), "the format does not know", id="an odd depth"),
        pytest.param(b"\xff\xd8" + frame(4, 4, kind=0xC3), "of a kind that is not read", id="lossless JPEG"),
        pytest.param(b"\xff\xd8" + frame(4, 4, depth=12), "12 bits", id="a JPEG of 12 bits"),
        pytest.param(b"\xff\xd8\0\xff\xc0", "a marker is missing", id="a JPEG with rubbish in it"),
        pytest.param(b"\xff\xd8\xff\xff\xff", "ends in its header", id="a JPEG that is cut"),
        pytest.param(b"\xff\xd8\xff\xe0\0\0" + frame(4, 4), "of a kind", id="a segment without length"),
        pytest.param(pngs.PROGRESSIVE + b"\xff\xda" * 99, "more than 100 scans", id="very many scans"),
    ],
)
def test_an_image_that_is_not_passed_on(content: bytes, reason: str) -> None:
    with pytest.raises(BadPicture, match=reason):
        look(content)


def test_a_jpegs_first_frame_counts_as_it_does_for_the_decoder() -> None:
    hidden = b"\xff\xe0" + struct.pack(">H", 2 + 19) + frame(4, 4)
    with pytest.raises(BadPicture, match="60000"):
        look(b"\xff\xd8" + hidden + frame(60000, 60000) + frame(4, 4))


def test_the_largest_images_are_taken() -> None:
    assert look(pngs.png(SIDE, SIDE, depth=1, colour=0)).cost == MAX_IMAGE_PIXELS
    assert look(pngs.png(MAX_RATIO, 1)).width == MAX_RATIO


def test_data_in_several_chunks_are_one_stream() -> None:
    data = zlib.compress(bytes(pngs.raw_size(9, 9, 8, 2, False)))
    whole = pngs.png(9, 9)
    pieces = b"".join(pngs.chunk(b"IDAT", data[at : at + 3]) for at in range(0, len(data), 3))
    begin, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    assert look(whole[:begin] + pieces + whole[end:]).height == 9


def test_the_guide_tells_the_bounds() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "images.md").read_text(encoding="utf-8")
    for bound in (
        f"| images of a request | {MAX_IMAGES} |",
        f"| pixels of one image | {MAX_IMAGE_PIXELS:,} ({SIDE} × {SIDE})",
        f"| pixels of all images of a request | {MAX_REQUEST_PIXELS:,} |",
        f"the long side at most {MAX_RATIO} times",
        f"| a request's body | {MAX_BODY_BYTES // 2**20} MiB,",
        f"| the bodies of all requests in a pod | {MAX_HELD_BYTES // 2**20} MiB ",
    ):
        assert bound in guide


GOOD = (
    pngs.png(9, 7), pngs.png(9, 7, depth=16, colour=6, interlaced=True), pngs.png(9, 7, depth=4, colour=3),
    pngs.JPEG, pngs.PROGRESSIVE,
)  # fmt: skip


@given(content=st.sampled_from(GOOD), changes=st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=9))))
def test_whatever_is_done_to_an_image_it_is_taken_within_the_bounds_or_refused(
    content: bytes, changes: list[tuple[int, bytes]]
) -> None:
    for at, some in changes:
        content = content[:at] + some + content[at + len(some) :]
    try:
        found = look(content)
    except BadPicture:
        return
    assert 0 < found.width * found.height <= found.cost <= MAX_IMAGE_PIXELS
    assert max(found.width, found.height) <= MAX_RATIO * min(found.width, found.height)
