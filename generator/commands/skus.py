"""`berth skus`: the instance types that can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from generator.commands.size import Format
from generator.options import EntriesOfFleet


def command(
    search: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="Only those whose name, cloud or GPU has it.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the list.")] = Format.table,
    fleet: EntriesOfFleet = None,
) -> None:
    """List the instance types that `resource.instanceType` can name.

    Examples:

    berth skus

    berth skus A100

    berth skus azure --format json
    """
    from generator import catalogues

    catalogues.show_instance_types(search, as_json=format is Format.json, fleet=fleet)
