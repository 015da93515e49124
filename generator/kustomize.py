"""Which files are patches of a kustomization: parts of a Workspace, which are no Workspaces themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from generator import folders
from generator.documents import UnreadableError, build, compose

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

NAMES = frozenset({"kustomization.yaml", "kustomization.yml"})
LARGEST_FILE = 1024**2
"""Bytes; a longer one is taken for something else."""


def patches(paths: Iterable[Path]) -> set[Path]:
    """Return the real paths of the files that the kustomizations among `paths` patch with."""
    found: set[Path] = set()
    for path in paths:
        if path.name in NAMES:
            found.update((path.parent / name).resolve() for name in _named(_read(path)))
    return found


def _read(path: Path) -> Any:
    try:
        content = folders.read(path, LARGEST_FILE)
        node = compose(content.decode("utf-8-sig"))
        return build(node)[0] if node is not None else None
    except (folders.UnreadablePathError, UnicodeDecodeError, UnreadableError):
        return None


def _named(kustomization: Any) -> Iterator[str]:
    if not isinstance(kustomization, dict):
        return
    for field in ("patches", "patchesStrategicMerge", "patchesJson6902"):
        entries = kustomization.get(field)
        for entry in entries if isinstance(entries, list) else []:
            name = entry.get("path") if isinstance(entry, dict) else entry
            if isinstance(name, str) and name and "\n" not in name and "\0" not in name and len(name) < 1000:
                yield name
