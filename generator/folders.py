"""Which files a path stands for, without following links out of the tree."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth.errors import BerthError
from berth.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".json")
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv"})
RENDERED_MARKERS = (".berth-rendered.json",)
"""Files at the root of a folder that `berth render` wrote, whose content is output and no spec."""


class UnreadablePathError(BerthError):
    """A path that the user named is not there or can't be read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to read, or the reason why it is not read. `real` is the same for every way to one file."""

    path: Path
    real: Path
    problem: Problem | None = None


def walk(path: Path) -> Iterator[Entry]:
    """Yield the file itself, or the files of a folder in the order of their names.

    Hidden folders, a chart's templates and rendered output are skipped. A link is followed to a file within
    the folder; one that leaves it is a problem, since the file is not what was reviewed here.

    Raises:
        UnreadablePathError: the path is not there or can't be read.
    """
    try:
        root = path.resolve(strict=True)
        if path.is_dir():
            yield from _folder(path, root, root)
        else:
            yield Entry(path, root)
    except FileNotFoundError:
        raise UnreadablePathError(f"{path}: there is no such file or folder") from None
    except (OSError, RuntimeError) as error:
        raise UnreadablePathError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read(path: Path, most: int = -1) -> bytes:
    """Return at most `most` bytes of a file.

    Raises:
        UnreadablePathError: it can't be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise UnreadablePathError(f"{path}: {error.strerror or error}") from None


def shown(path: Path) -> str:
    """The path as it is printed: bytes that are no UTF-8 must not break the output."""
    return os.fsencode(path).decode("utf-8", "replace")


def _folder(folder: Path, real: Path, root: Path) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield Entry(folder, real, unreadable("the folder", error.strerror or str(error)))
        return
    names = {entry.name for entry in entries}
    if names & set(RENDERED_MARKERS):
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            yield from _link(path, root)
        elif entry.is_dir():
            if entry.name not in SKIPPED_FOLDERS and not (
                entry.name == "templates" and "Chart.yaml" in names
            ):
                yield from _folder(path, real / entry.name, root)
        elif entry.name.endswith(SUFFIXES) and entry.is_file():
            yield Entry(path, real / entry.name)


def unreadable(what: str, why: str) -> Problem:
    """The problem of a file or folder below a path that can't be read; the others are read all the same."""
    return Problem((), None, f"{what} can't be read: {why}", "give leave to read it", rule="unreadable")


def _link(path: Path, root: Path) -> Iterator[Entry]:
    try:
        target = path.resolve(strict=True)
        is_folder, is_file = target.is_dir(), stat.S_ISREG(target.stat().st_mode)
    except (OSError, RuntimeError):
        if path.name.endswith(SUFFIXES):
            problem = Problem((), None, "the link leads nowhere", "mend or remove it", rule="link")
            yield Entry(path, path, problem)
        return
    inside = target == root or root in target.parents
    if not inside and (is_folder or path.name.endswith(SUFFIXES)):
        reason = "the link leads out of the folder, and is not followed"
        problem = Problem(
            (), None, reason, "copy what it leads to, or name that as a path of its own", rule="link"
        )
        yield Entry(path, path, problem)
    elif inside and is_file and path.name.endswith(SUFFIXES):
        yield Entry(path, target)
