"""`berth explain`: everything that is known of one preset or instance type."""

from __future__ import annotations

from typing import Annotated

import typer

from generator import options
from generator.commands.size import Format
from generator.options import EntriesOfFleet


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A preset, an instance type, or a GGUF file.",
            autocompletion=options.catalogue_names,
        ),
    ],
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.table,
    fleet: EntriesOfFleet = None,
) -> None:
    """Explain one preset or instance type: facts, sources, and what it fits on.

    Of a GGUF file the entry for berth.yaml is written, which makes it a model that Workspaces can name.

    Examples:

    berth explain llama-2-70b-chat

    berth explain Standard_NC12s_v3

    berth explain ./model.gguf >> berth.yaml
    """
    from pathlib import Path

    from generator import catalogues, describing

    if name.lower().endswith(".gguf"):
        describing.explain(Path(name), as_json=format is Format.json)
        return
    catalogues.explain(name, as_json=format is Format.json, fleet=fleet)
