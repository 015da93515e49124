"""Files served beside the model's own: each must be there, no larger than planned, and what was promised."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from serving.weights import checking
from serving.weights.errors import TooLarge, WrongHash
from serving.weights.stamps import State

if TYPE_CHECKING:
    from serving.weights.checking import Checked, Progress

_WRITTEN = re.compile(r"(?P<path>.+\.gguf)(?::(?P<size>[0-9]{1,15})(?::(?P<sha256>[0-9a-fA-F]{64}))?)?")


class Kind(StrEnum):
    """What a file is for; the words are those of the log."""

    ADAPTER = "adapter"
    """LoRA."""
    PROJECTOR = "projector"
    """Turns images into tokens."""


_FIX = {
    Kind.ADAPTER: "write its size in inference.llamacpp.adapters and render again",
    Kind.PROJECTOR: "write its size in the model's entry (`berth explain` prints it) and render again",
}


@dataclass(frozen=True)
class Extra:
    """One file; `size` is the bytes that the plan counted for it, None where no plan was made."""

    kind: Kind
    path: Path
    size: int | None = None
    sha256: str | None = None
    image: str | None = None
    """The image that it comes from, where that is known."""

    def of(self, image: str | None) -> Extra:
        """Return the same file as one of an image."""
        return replace(self, image=image)


def parse(kind: Kind, text: str) -> Extra:
    """Read `FILE.gguf:BYTES` or `FILE.gguf:BYTES:SHA256`, as the charts write it.

    On one's own machine a projector may stand without its bytes.

    Raises:
        ValueError: it is something else.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None or (found["size"] is None and kind is not Kind.PROJECTOR):
        raise ValueError(f"{text!r} is not FILE.gguf:BYTES or FILE.gguf:BYTES:SHA256")
    size, digest = found["size"], found["sha256"]
    return Extra(kind, Path(found["path"]), int(size) if size else None, digest.lower() if digest else None)


def check(extra: Extra, progress: Progress | None = None) -> Checked:
    """Return what is known of a file's content; `progress` is told of its bytes while they are hashed.

    Raises:
        MissingWeights: it is not there or is no GGUF file.
        TooLarge: it has more bytes than the plan counted, so the engine would take more than was planned.
        WrongHash: it is not what was promised.
    """
    checked = checking.check(extra.path, extra.sha256, image=extra.image, progress=progress)
    if extra.size is not None and checked.size > extra.size:
        raise TooLarge(
            f"the {extra.kind} {extra.path} has {checked.size} bytes, and the plan counted {extra.size}; "
            f"{_FIX[extra.kind]}"
        )
    if checked.state is State.WRONG:
        raise WrongHash(checked.reason)
    return checked
