"""Writes what `berth install` makes: a folder to commit, or one stream for kubectl.

A file that an earlier render wrote and this one does not is removed; a file of anybody else is never touched.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from generator import files, platform
from generator.platform import foundation, frame, helm
from generator.study import study

if TYPE_CHECKING:
    from collections.abc import Mapping

EXIT_STALE, EXIT_UNUSABLE = 1, 2


def command_line(
    out: str,
    *,
    check: bool,
    fleet: Path | None,
    certificates: frame.Certificates,
    watcher: bool = True,
    dry_run: bool = False,
    chart: bool = False,
) -> int:
    """Run the command and return its exit code; data goes to stdout, talk to stderr."""
    if chart and out == "-":
        print("error: a chart is a folder; name it with --out", file=sys.stderr)
        return EXIT_UNUSABLE
    settings = read(fleet, frame.Settings(certificates=certificates, watcher=watcher, dry_run=dry_run))
    if settings is None:
        return EXIT_UNUSABLE
    try:
        wanted = helm.files(settings) if chart else platform.files(settings)
    except foundation.FleetTooLargeError as problem:
        print(f"{fleet}: {problem}", file=sys.stderr)
        return EXIT_UNUSABLE
    if out == "-":
        sys.stdout.write(platform.stream(settings))
        return 0
    folder = files.folder(Path(out))
    stale, left = differences(folder, wanted)
    if check:
        return _told(folder, stale, left)
    for name in stale:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.named(place):
            place.write_text(wanted[name], encoding="utf-8", newline="\n")
    for place in left:
        place.unlink()
    unchanged = len(wanted) - len(stale)
    print(f"{out}: {len(stale)} written, {unchanged} unchanged, {len(left)} removed", file=sys.stderr)
    return 0


def differences(folder: Path, wanted: Mapping[str, str]) -> tuple[list[str], list[Path]]:
    """Return which files are not as wanted, and which an earlier render left that are not wanted any more."""
    stale = [name for name, text in wanted.items() if _text(folder / name) != text]
    return stale, _left(folder, wanted)


def read(fleet: Path | None, wished: frame.Settings) -> frame.Settings | None:
    """Return the settings with the fleet file in them; None after saying what is wrong with it."""
    if fleet is None:
        return wished
    # With its entries and fallbacks, as every command reads it: the webhook could not use wrong ones either.
    found = study([], fleet)
    for subject in found.subjects:
        for located in subject.problems:
            line, column = located.position
            problem = located.problem
            print(f"{fleet}:{line}:{column}: {problem.field}: {problem.message}", file=sys.stderr)
    if not found.valid:
        return None
    return replace(wished, fleet=found.fleet, text=fleet.read_text(encoding="utf-8"))


def _told(folder: Path, stale: list[str], left: list[Path]) -> int:
    for name in stale:
        print(f"{folder / name}: {'differs' if (folder / name).exists() else 'missing'}")
    for place in left:
        print(f"{place}: no longer wanted")
    if stale or left:
        print(f"{folder} is not what `berth install` makes; run it again and commit", file=sys.stderr)
        return EXIT_STALE
    return 0


def _left(folder: Path, wanted: Mapping[str, str]) -> list[Path]:
    """Files of an earlier render that are not wanted any more."""
    own = {folder / name for name in wanted}
    found = (place for place in sorted(folder.rglob("*.yaml")) if place not in own and place.is_file())
    return [place for place in found if (_text(place) or "").startswith(platform.HEADER)]


def _text(place: Path) -> str | None:
    return place.read_text(encoding="utf-8", errors="replace") if place.is_file() else None
