"""The record at the root of a rendered folder: what berth owns there, and what it was made from.

It is committed with the manifests, so nothing of a machine, a path or a time is in it. It also marks the
folder as output, which is never read as a spec.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from berth.errors import BerthError
from generator import folders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = folders.RENDERED_MARKERS[0]
FORMAT = 1


class InvalidLockError(BerthError):
    """The record can't be read, so nothing in the folder may be touched."""


@dataclass(frozen=True)
class Owned:
    """One Workspace's folder: a digest of what it was rendered from, and the sha256 of each file."""

    inputs: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Lock:
    """Everything that berth owns below one output folder."""

    berth: str
    fleet: Mapping[str, Any] = field(default_factory=dict)
    """What the fleet file says, so that `berth verify` needs nothing but the folder."""
    folders: Mapping[str, Owned] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Files at the root, the record itself aside."""

    def dumps(self) -> str:
        """The record as JSON, the same for the same content; one line a file, for merges."""
        data = {
            "format": FORMAT,
            "berth": self.berth,
            "fleet": self.fleet,
            "files": self.files,
            "folders": {
                name: {"inputs": owned.inputs, "files": owned.files} for name, owned in self.folders.items()
            },
        }
        return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def load(out: Path) -> Lock | None:
    """Return the record of a folder, None where there is none.

    Raises:
        InvalidLockError: there is one that this version can't read.
    """
    return load_file(out / NAME)


def load_file(path: Path) -> Lock | None:
    """Return the record in a file, None where there is none; raises as `load` does."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise InvalidLockError(f"{path} has format {data['format']!r}, and this berth reads {FORMAT}")
        owned = {name: Owned(one["inputs"], dict(one["files"])) for name, one in data["folders"].items()}
        names = [*owned, *data["files"], *(name for one in owned.values() for name in one.files)]
        if any("/" in name or "\\" in name or name in ("", ".", "..") for name in names):
            raise ValueError("a name leads out of the folder")
        return Lock(data["berth"], dict(data["fleet"]), owned, dict(data["files"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        fix = "restore it from git, or remove the folder and render again"
        raise InvalidLockError(f"{path} is no record of berth's that can be read; {fix}") from None


def sha256(content: bytes) -> str:
    """Return the digest under which a file is recorded."""
    return hashlib.sha256(content).hexdigest()
