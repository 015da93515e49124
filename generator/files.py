"""Writing files that people keep: a failure names the file, and leaves none that is cut off."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Add the path to an error that has none: of a full disk, the system does not say where it was met."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def create(path: Path, text: str) -> None:
    """Write a file that must not be there yet, whole or not at all.

    Raises:
        FileExistsError: it is there.
        OSError: it can't be written; nothing of it stays.
    """
    opened = path.open("x", encoding="utf-8", newline="\n")
    try:
        with named(path), opened as stream:
            stream.write(text)
    except BaseException:
        path.unlink()
        raise


def folder(path: Path) -> Path:
    """Return the path if it is a folder or can become one.

    Raises:
        NotADirectoryError: it, or what leads to it, is a file.
    """
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "it is a file; name a folder", os.fspath(place))
            break
    return path
