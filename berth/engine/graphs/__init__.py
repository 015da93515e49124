"""The graphs of each architecture, as the engine builds them to find out how much memory they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.graphs import dense
from berth.errors import UnknownArchitecture

if TYPE_CHECKING:
    from berth.engine.graphs.base import Architecture

GRAPHS: dict[str, Architecture] = {
    "llama": dense.llama,
    "qwen2": dense.qwen2,
    "falcon": dense.falcon,
}


def graph_of(architecture: str) -> Architecture:
    """The function that builds an architecture's graph.

    Raises:
        UnknownArchitecture: there is none, and nothing is guessed.
    """
    found = GRAPHS.get(architecture)
    if found is None:
        known = ", ".join(sorted(GRAPHS))
        raise UnknownArchitecture(
            f"there is no memory model of the architecture {architecture!r}; known are: {known}"
        )
    return found
