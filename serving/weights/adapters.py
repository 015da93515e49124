"""LoRA adapters before they are served: each must be there, no larger than planned, and what was promised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving.weights import checking
from serving.weights.errors import TooLarge, WrongHash
from serving.weights.stamps import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serving.weights.checking import Checked

_WRITTEN = re.compile(r"(?P<path>.+\.gguf):(?P<size>[0-9]{1,15})(?::(?P<sha256>[0-9a-fA-F]{64}))?")


@dataclass(frozen=True)
class Adapter:
    """One file; `size` is the bytes that the plan counted for it."""

    path: Path
    size: int
    sha256: str | None = None


def parse(text: str) -> Adapter:
    """Read `FILE.gguf:BYTES` or `FILE.gguf:BYTES:SHA256`, as the charts write it.

    Raises:
        ValueError: it is something else.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not FILE.gguf:BYTES or FILE.gguf:BYTES:SHA256")
    digest = found["sha256"]
    return Adapter(Path(found["path"]), int(found["size"]), digest.lower() if digest else None)


def check(adapters: Iterable[Adapter]) -> list[Checked]:
    """Return what is known of each adapter's content.

    Raises:
        MissingWeights: a file is not there or is no GGUF file.
        TooLarge: a file has more bytes than the plan counted, so the engine would take more than was planned.
        WrongHash: a file is not what was promised.
    """
    found = []
    for adapter in adapters:
        checked = checking.check(adapter.path, adapter.sha256)
        if checked.size > adapter.size:
            raise TooLarge(
                f"the adapter {adapter.path} has {checked.size} bytes, and the plan counted {adapter.size}; "
                "write its size in inference.llamacpp.adapters and render again"
            )
        if checked.state is State.WRONG:
            raise WrongHash(checked.reason)
        found.append(checked)
    return found
