"""Images, sounds and films in a request: only ones that it carries itself.

The engine would fetch an `http` address for whoever asks, from inside the cluster's network. So every form in
which the APIs name media is looked at, and what is no data is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONVERSATIONS = ("messages", "input", "system", "prompt")
"""The fields of a request that hold content; tools and schemas may speak of media as they like."""
_KEYS = ("image_url", "input_audio", "input_video", "video_url", "multimodal_data")
_LONGEST_SCHEME = 64


def check(data: Mapping[str, Any]) -> None:
    """Look at a request of any of the APIs.

    Raises:
        Refusal: 400; it names media by an address.
    """
    for name in _CONVERSATIONS:
        for where, text in _media(data.get(name), name):
            if not text.startswith("data:") and ":" in text[:_LONGEST_SCHEME]:
                reason = "addresses are not fetched here; send the content itself, as a `data:` URL"
                raise Refusal(400, f"{where}: {reason}", code="remote_media")


def _media(content: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text that stands for media, with the field it stands in."""
    waiting: list[tuple[Any, str, bool]] = [(content, where, False)]
    while waiting:
        value, where, inside = waiting.pop()
        if isinstance(value, str):
            if inside:
                yield where, value
        elif isinstance(value, Mapping):
            image = value.get("type") == "image"
            for key, part in value.items():
                found = inside or key in _KEYS or (image and key == "source")
                waiting.append((part, key if found else where, found))
        elif isinstance(value, list):
            waiting += [(part, where, inside) for part in value]
