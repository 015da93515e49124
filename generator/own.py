"""The catalogue with the entries of the fleet file that one stands in."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from berth import catalog as catalogs
from generator import specs
from generator.study import study

if TYPE_CHECKING:
    from pathlib import Path

    from berth.catalog import Catalog


def catalog(fleet: Path | None = None) -> Catalog:
    """Return what this fleet file knows, by default the nearest one; the bare catalogue where there is none.

    A fleet file with problems is told and left out: it must keep nobody from looking something up.
    """
    path = fleet or specs.find_fleet(".")
    if path is None:
        return catalogs.load()
    found = study([], path)
    if not found.valid:
        print(
            f"warning: {path} has problems, so its own entries are left out; "
            f"`berth check {path.parent} --fleet {path}` names them",
            file=sys.stderr,
        )
        return catalogs.load()
    return found.catalog
