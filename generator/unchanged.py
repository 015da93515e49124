"""The fast answer to "is there anything to render?", without reading a single spec.

Next to nothing is imported here. What a render read and wrote is remembered in the user's cache folder: the
digest of every input, and size and times of every file written, as git does for its index. Without that
memory, on a fresh clone say, the render takes the long way and comes to the same end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from generator import folders, lockfile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OURS = b"kaito.sh"
_CODE = ("berth", "presets", "generator")
_SUFFIXES = (".py", ".yaml", ".js")


def inputs(paths: Sequence[str], fleet: Path | None, root: Path | None = None) -> str | None:
    """Return a digest of all that a render depends on; None where it can't be told cheaply."""
    found = hashlib.sha256(engine().encode())
    if fleet is not None:
        found.update(b"fleet" + hashlib.sha256(folders.read(fleet)).digest())
    seen = set()
    for path in paths:
        if path == "-":
            return None
        for entry in folders.walk(Path(path)):
            if entry.problem is not None:
                return None
            if entry.real in seen:
                continue
            seen.add(entry.real)
            content = folders.read(entry.path)
            if _may_be_ours(content) or entry.path.stem == "kustomization":
                name = str(entry.path).encode(errors="surrogateescape")
                found.update(name + b"\0" + hashlib.sha256(content).digest())
    return found.hexdigest()


@cache
def engine() -> str:
    """Return a digest of berth's own code and data, so that a change of either renders again."""
    found = hashlib.sha256()
    root = Path(__file__).parent.parent
    for package in _CODE:
        for path in sorted(_files(str(root / package))):
            found.update(os.path.relpath(path, root).encode() + b"\0")
            with open(path, "rb") as stream:  # noqa: PTH123  a hundred files, in a few milliseconds
                found.update(stream.read())
    return f"sha256:{found.hexdigest()[:16]}"


def remember(out: Path, digest: str | None, lock: lockfile.Lock) -> None:
    """Note what was read and written; a cache folder that can't be written costs only time."""
    if digest is None:
        return
    files = {path: _stamp(out / path) for path in _written(lock)}
    memory = {"inputs": digest, "workspaces": len(lock.folders), "files": files}
    place = _place(out)
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f"{place.name}.{os.getpid()}")
        new.write_text(json.dumps(memory), encoding="utf-8")
        new.replace(place)


def known(out: Path, digest: str | None) -> int | None:
    """Return how many Workspaces these inputs were rendered to, None where a file was touched since."""
    if digest is None:
        return None
    try:
        memory = json.loads(_place(out).read_bytes())
        if memory["inputs"] != digest:
            return None
        base = f"{os.fspath(out)}{os.sep}"
        same = all(_quick_stamp(base + path) == stamp for path, stamp in memory["files"].items())
        return int(memory["workspaces"]) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _may_be_ours(content: bytes) -> bool:
    """As `generator.specs`: the group's name stands in every Workspace. A zero byte may hide UTF-16."""
    return _OURS in content.lower() or b"\0" in content


def _files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _files(entry.path)
            elif entry.name.endswith(_SUFFIXES):
                yield entry.path


def _written(lock: lockfile.Lock) -> Iterator[str]:
    yield lockfile.NAME
    yield from lock.files
    for folder, owned in lock.folders.items():
        yield from (f"{folder}/{name}" for name in owned.files)


def _stamp(path: Path) -> list[int]:
    return _quick_stamp(os.fspath(path))


def _quick_stamp(path: str) -> list[int]:
    found = os.stat(path)  # noqa: PTH116  thousands of calls
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _place(out: Path) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:24]
    return Path(base) / "berth" / f"{name}.json"
