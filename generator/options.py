"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EntriesOfFleet = Annotated[
    Path | None,
    typer.Option(
        "--fleet",
        metavar="FILE",
        help="The fleet file, whose own entries count too; by default the nearest berth.yaml.",
        show_default=False,
    ),
]


def preset_names(incomplete: str) -> list[str]:
    """Offer presets to the shell's completion; where none matches, the shell offers files."""
    from generator import own

    return _beginning(own.catalog().model_names, incomplete)


def catalogue_names(incomplete: str) -> list[str]:
    """Offer presets and instance types."""
    from generator import own

    known = own.catalog()
    return _beginning((*known.model_names, *sorted(known.instance_types)), incomplete)


def quantization_names(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the quantizations of the preset that stands in the line already."""
    from berth.errors import UnknownModel
    from generator import own

    # An option that still waits for its value leaves the arguments unread.
    given = [context.params.get("model"), *context.args]
    try:
        model = own.catalog().model(next((one for one in given if one), ""))
    except UnknownModel:
        return []
    return _beginning(tuple(model.quantizations), incomplete)


def _beginning(names: tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files, folders, or - for standard input.", show_default=False),
]
FleetFile = Annotated[
    Path | None,
    typer.Option(
        "--fleet",
        metavar="FILE",
        help="The fleet file; by default the nearest berth.yaml above PATH.",
        show_default=False,
    ),
]
