"""`berth presets`: the models that can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from generator.commands.size import Format
from generator.options import EntriesOfFleet


def command(
    search: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Only those whose name, family or title has it.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the list.")] = Format.table,
    fleet: EntriesOfFleet = None,
) -> None:
    """List the models that `inference.preset.name` can name.

    Examples:

    berth presets

    berth presets qwen3

    berth presets --format json | jq -r '.presets[].name'
    """
    from generator import catalogues

    catalogues.show_presets(search, as_json=format is Format.json, fleet=fleet)
