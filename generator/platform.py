"""`berth install`: what a cluster needs once, as files. So far the Workspace CRD and its roles.

These files are made from the table of fields, not from user input, so nothing here plans or needs Node.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from generator import crd, synth

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "crds"


def files() -> dict[str, str]:
    """Return the text of every file by its path below the output folder, in apply order."""
    own = {f"{FOLDER}/{name}": text for name, text in crd.files().items()}
    return {**own, synth.KUSTOMIZATION: synth.kustomization(own)}


def stream() -> str:
    """Return every object as one text, for `kubectl apply -f -`."""
    return "---\n".join(text for text in crd.files().values())


def command_line(out: str, *, check: bool) -> int:
    """Run the command and return its exit code; data goes to stdout, talk to stderr."""
    if out == "-":
        sys.stdout.write(stream())
        return 0
    folder = Path(out)
    wanted = files()
    stale = [name for name, text in wanted.items() if _text(folder / name) != text]
    if check:
        for name in stale:
            print(f"{folder / name}: {'differs' if (folder / name).exists() else 'missing'}")
        if stale:
            print(f"{out} is not what `berth install` makes; run it again and commit", file=sys.stderr)
        return 1 if stale else 0
    _write(folder, {name: wanted[name] for name in stale})
    print(f"{out}: {len(stale)} written, {len(wanted) - len(stale)} unchanged", file=sys.stderr)
    return 0


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8", newline="\n")


def _text(place: Path) -> str | None:
    return place.read_text(encoding="utf-8") if place.is_file() else None
