"""The files of a new fleet repository."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING

from berth import fleet
from generator.files import create

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable
    from pathlib import Path


def files() -> Iterator[tuple[str, str]]:
    """Yield every file as its path in the repository and its text, the fleet file's schema among them."""
    yield from _walk(resources.files("generator") / "data" / "fleet", "")
    yield "berth.schema.json", json.dumps(fleet.json_schema(), indent=2) + "\n"


def write(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Write what is not there yet; yield each path and whether it was written."""
    for name, text in files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            create(path, text)
        except FileExistsError:
            yield path, False
        else:
            yield path, True


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        else:
            yield name, entry.read_text(encoding="utf-8")
