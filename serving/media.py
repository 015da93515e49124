"""Images, sounds and films in a request: only images, only ones that it carries itself, and only so large.

The engine would fetch an `http` address for whoever asks, from inside the cluster's network, and decode
whatever it is given. So every form in which the APIs name media is looked at, and what is no small enough
image is refused before the engine sees it.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.images import MAX_IMAGES, MAX_REQUEST_PIXELS
from serving import pictures
from serving.pictures import BadPicture
from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONVERSATIONS = ("messages", "input", "system", "prompt", "content")
"""The fields of a request that hold content; tools and schemas may speak of media as they like."""
_PROMPTS = "multimodal_data"
_IMAGES = ("image_url", _PROMPTS)
_OTHERS = ("input_audio", "input_video", "video_url")
_CONTENT = ("image_url", "source", "url", "data")
"""What the engine takes the content from, inside of what names media; the rest says only what it is."""
_LONGEST_SCHEME = 64
_SMALL = 2**16
"""Characters of base64 that are looked at between two tokens of other answers; more go to a thread."""


@dataclass(frozen=True)
class Found:
    """A text that stands for media, the field that named it as such, and the one it stands in."""

    kind: str
    field: str
    text: str


async def check(data: Mapping[str, Any], *, images: bool) -> int:
    """Look at a request of any of the APIs and return how many images it has.

    Args:
        data: the request.
        images: whether the engine has a projector.

    Raises:
        Refusal: 400; it names media by an address, or has some that aren't taken.
    """
    found = [one for name in _CONVERSATIONS for one in _media(data.get(name))]
    if not found:
        return 0
    for one in found:
        if not one.text.startswith("data:") and ":" in one.text[:_LONGEST_SCHEME]:
            reason = "addresses are not fetched here; send the content itself, as a `data:` URL"
            raise Refusal(400, f"{one.kind}: {reason}", code="remote_media")
    if not images:
        reason = "this server takes no images: the Workspace names no inference.llamacpp.mmproj"
        raise Refusal(400, f"{found[0].kind}: {reason}", code="images_not_taken")
    if other := next((one for one in found if one.kind in _OTHERS), None):
        raise Refusal(400, f"{other.kind}: of all media only images are taken here", code="images_only")
    texts = [one.text for one in found if one.kind == _PROMPTS or one.field in _CONTENT]
    if len(texts) > MAX_IMAGES:
        raise Refusal(
            400, f"a request may have {MAX_IMAGES} images; there are {len(texts)}", code="bad_image"
        )
    if sum(map(len, texts)) <= _SMALL:
        _look(texts)
    else:
        await asyncio.to_thread(_look, texts)
    return len(texts)


def _look(texts: Sequence[str]) -> None:
    cost = 0
    for number, text in enumerate(texts, start=1):
        try:
            cost += pictures.look(_decoded(text)).cost
        except BadPicture as problem:
            raise Refusal(400, f"image {number} of {len(texts)} {problem}", code="bad_image") from None
        if cost > MAX_REQUEST_PIXELS:
            text = f"{number} of {len(texts)} images have {cost} pixels together"
            fix = f"at most {MAX_REQUEST_PIXELS} are taken: make them smaller or send fewer"
            raise Refusal(400, f"{text}; {fix}", code="bad_image")


def _decoded(text: str) -> bytes:
    """Decode as the engine does, which takes what comes before the first wrong letter; here there is none."""
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.startswith("data:image/") or not head.endswith(";base64"):
            raise BadPicture("is no `data:image/…;base64,` URL")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise BadPicture("is no base64 without blanks and line breaks") from None


def _media(content: Any) -> Iterator[Found]:
    """Yield in the request's order, by which images are counted."""
    waiting: list[tuple[Any, str, str]] = [(content, "", "")]
    while waiting:
        value, kind, field = waiting.pop()
        if isinstance(value, str):
            if kind:
                yield Found(kind, field, value)
        elif isinstance(value, Mapping):
            image, called = value.get("type") == "image", value.get("type") == "tool_use"
            for key, part in reversed(list(value.items())):
                if called and key == "input" and not kind:
                    continue  # what a model gave a tool; the engine shows it as text
                begins = not kind and (key in _IMAGES or key in _OTHERS or (image and key == "source"))
                waiting.append((part, key if begins else kind, key))
        elif isinstance(value, list):
            waiting += [(part, kind, field) for part in reversed(value)]
