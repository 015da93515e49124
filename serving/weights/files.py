"""GGUF files in a folder: the parts of a split model, and what is wrong where one is missing."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from serving.weights.errors import MissingWeights, WeightsError

MAGIC = b"GGUF"
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf")
_POINTER = b"version https://git-lfs"
_LISTED = 8
"""How many of the files that are there an error names."""


def parts(path: Path) -> tuple[Path, ...]:
    """Return every file of a model: number and count of a split one stand in its names.

    >>> [part.name for part in parts(Path("m-00001-of-00002.gguf"))]
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["parts"])
    return tuple(
        path.with_name(f"{match['stem']}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)
    )


def below(folder: Path, name: str) -> Path:
    """Return the path of a repository's file in a folder.

    Raises:
        WeightsError: the name leads out of the folder.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        raise WeightsError(f"{name!r} is no path below a repository's root")
    return folder / relative


def must_be_gguf(path: Path) -> int:
    """Return a GGUF file's size in bytes, having read its first bytes.

    Raises:
        MissingWeights: it is not there, or is no GGUF file, with what probably happened.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_POINTER))
            size = stream.seek(0, 2)
    except FileNotFoundError:
        raise MissingWeights(_why_missing(path)) from None
    except (IsADirectoryError, NotADirectoryError):
        raise MissingWeights(f"{path} is no file") from None
    except PermissionError:
        raise MissingWeights(
            f"{path} may not be read by this user; files have to be readable by all"
        ) from None
    if head.startswith(MAGIC):
        return size
    if head.startswith(_POINTER):
        raise MissingWeights(f"{path} is a Git LFS pointer and not the file itself: `git lfs pull` brings it")
    if size == 0:
        raise MissingWeights(f"{path} is empty")
    if path.resolve() != path.absolute():
        raise MissingWeights(f"{path} is a link, and what it leads to is no GGUF file")
    raise MissingWeights(f"{path} is no GGUF file: it begins with {head[:8]!r}")


def _why_missing(path: Path) -> str:
    """What the folder shows of the reason; some container runtimes mount image volumes empty."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    # A volume's own file system may bring `lost+found` along.
    held = sorted(entry.name for entry in folder.iterdir() if entry.name != "lost+found")
    if not held:
        return (
            f"{folder} is empty, so there is no {path.name}. If it is an image volume, this node's container "
            "runtime does not mount images, which some do not say: write `weights.imageVolumes: false` in "
            "berth.yaml and render again, so that an init container copies the files. "
            "If it is a volume claim, nothing has been put into it yet"
        )
    listed = ", ".join(held[:_LISTED]) + (f" and {len(held) - _LISTED} more" if len(held) > _LISTED else "")
    return f"there is no {path}; {folder} holds {listed}"
