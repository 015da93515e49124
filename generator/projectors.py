"""A projector (mmproj) as a part of its model's entry in `berth.yaml`, read from its GGUF file's header."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from berth import models, projectors
from berth.engine import projectors as engine
from berth.entries import Projector
from berth.errors import BerthError
from berth.quantities import gib
from generator import texts

if TYPE_CHECKING:
    from pathlib import Path

    from berth.engine.gguf import Header


def is_projector(header: Header) -> bool:
    """Return whether a file holds a projector and no model."""
    return header.metadata.get("general.architecture") == models.PROJECTOR


def explain(path: Path, header: Header, *, as_json: bool) -> None:
    """Print what a model's entry has to hold of its projector; say how to use it.

    Raises:
        BerthError: it is of a kind that berth does not know to count.
    """
    block = {"projector": describe(path, header)}
    found = projectors.measure(Projector.model_validate(block["projector"]))
    print(json.dumps(block, indent=2) if as_json else texts.document(block).rstrip(), flush=True)
    print(
        f"{path.name}: put this into its model's entry in berth.yaml, and `mmproj: {{}}` into "
        f"inference.llamacpp of a Workspace; it takes {gib(found.weights + found.compute)} of the first GPU, "
        f"and an image up to {found.tokens} tokens of a slot",
        file=sys.stderr,
    )


def describe(path: Path, header: Header) -> dict[str, Any]:
    """Return the projector of an entry.

    Raises:
        BerthError: it is of a kind that berth does not know to count.
    """
    kept = {key: value for key, value in header.metadata.items() if _is_shape(key)}
    try:
        engine.parse(kept)
    except BerthError as error:
        raise BerthError(f"{path}: {error}") from None
    return {"file": path.name, "size": header.file_size, "metadata": kept}


def _is_shape(key: str) -> bool:
    prefix = f"{models.PROJECTOR}."
    return key == "general.architecture" or (
        key.startswith(prefix) and not key.endswith((".image_mean", ".image_std"))
    )
