"""`berth render` of a fleet that did not change, before the command line's own machinery is loaded.

Importing Typer and pydantic takes longer than looking at a thousand specs. Only the plainest command line is
understood here; whatever else it is, or whatever is wrong with it, goes the long way.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def render(arguments: Sequence[str]) -> int | None:
    """Return 0 where nothing is to be done, and say so; None where the long way must be gone."""
    asked = _plain(arguments)
    if asked is None:
        return None
    paths, out, fleet = asked
    from berth.errors import BerthError
    from generator import specs, unchanged

    try:
        found = fleet or next((one for one in map(specs.find_fleet, paths) if one is not None), None)
        count = unchanged.known(Path(out), unchanged.inputs(paths, found))
    except (BerthError, OSError):
        return None
    if count is None:
        return None
    print(summary(out, 0, count), file=sys.stderr)
    return 0


def summary(out: str, rendered: int, unchanged: int, removed: Sequence[str] = ()) -> str:
    """Return the line that ends a render."""
    parts = [f"{rendered} rendered", f"{unchanged} unchanged"]
    if removed:
        parts.append(f"{len(removed)} removed ({', '.join(removed[:3])}{', …' if len(removed) > 3 else ''})")
    return f"{out}: {', '.join(parts)}"


def _plain(arguments: Sequence[str]) -> tuple[list[str], str, Path | None] | None:
    """Return paths, output folder and fleet file of `render PATH… --out DIR [--fleet FILE] [--check]`."""
    if not arguments or arguments[0] != "render":
        return None
    paths: list[str] = []
    options: dict[str, str] = {}
    rest = iter(arguments[1:])
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in ("--out", "-o", "--fleet") and (name != "-o" or not equals):
            options["--out" if name == "-o" else name] = value if equals else next(rest, "")
        elif argument.startswith("-") and argument != "--check":
            return None
        elif argument != "--check":
            paths.append(argument)
    out = options.get("--out")
    if not paths or not out or out == "-" or options.get("--fleet") == "":
        return None
    return paths, out, Path(options["--fleet"]) if "--fleet" in options else None
