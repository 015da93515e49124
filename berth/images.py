"""The images that a request may carry, and what the engine takes on the host to decode them.

The front refuses more before the engine sees it, and the plan counts as much: one knows the other's bounds.
"""

from __future__ import annotations

MAX_IMAGES = 16
"""Of one request."""
MAX_IMAGE_PIXELS = 2**24
"""Of one image: 4096 × 4096, more than any projector looks at; a camera's 4032 × 3024 fits."""
MAX_REQUEST_PIXELS = 2**25
"""Of all images of a request: the engine decodes all of them before it looks at the first."""
MAX_RATIO = 100
"""Of an image's long side to its short one. Beyond it the engine, which rounds the short side up to a whole
patch, would compute more tokens than its bound on an image's tokens says."""
MAX_BODY_BYTES = 32 * 2**20
"""Of a request's body, unless the front is told another bound; a third of that is base64's."""

_DECODING = 16
"""Bytes per pixel while an image is decoded: progressive JPEG keeps coefficients of two bytes and samples of
four components beside the pixels; PNG keeps two or three copies. A pixel of 16-bit channels counts as two."""
_DECODED = 3
_BODIES = 4
"""Copies of a body: its text, its JSON, the converted messages and the files."""

MAX_HELD_BYTES = 8 * MAX_BODY_BYTES
"""Of the bodies of all requests that wait in the front or are answered."""
CHECKS = 2
"""Large requests that the front looks at in one moment."""
_CHECKED = 5
"""Copies of a body while it is looked at: its JSON, its texts, and what they decode to."""


def host_bytes(parallel: int) -> int:
    """Return the host memory that images take at most: in the engine for each slot, and in the front."""
    decoding = MAX_IMAGE_PIXELS * _DECODING
    decoded = (MAX_REQUEST_PIXELS - MAX_IMAGE_PIXELS) * _DECODED
    slot = decoding + decoded + _BODIES * MAX_BODY_BYTES
    return parallel * slot + MAX_HELD_BYTES + CHECKS * _CHECKED * MAX_BODY_BYTES
