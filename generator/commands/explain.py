"""`berth explain`: everything that is known of one preset or instance type."""

from __future__ import annotations

from typing import Annotated

import typer

from generator.commands.size import Format


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A preset or an instance type.")],
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = Format.table,
) -> None:
    """Explain one preset or instance type: facts, sources, and what it fits on.

    Examples:

      berth explain llama-2-70b-chat

      berth explain Standard_NC12s_v3
    """
    from generator import catalogues

    catalogues.explain(name, as_json=format is Format.json)
