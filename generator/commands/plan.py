"""`berth plan`: what each Workspace needs, and what a change would make of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from generator.options import FleetFile, Paths


class Format(StrEnum):
    """How the plans are written."""

    table = "table"
    json = "json"
    markdown = "markdown"


def command(
    paths: Paths,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the plans.")] = Format.table,
    since: Annotated[
        str | None,
        typer.Option(metavar="REF", help="Compare with a git revision: what the change costs and needs."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell each one's memory, reasons, weights and warnings.")
    ] = False,
    fleet: FleetFile = None,
) -> None:
    """Show nodes, GPUs, memory per GPU, server settings and cost of each Workspace.

    Examples:

    berth plan .

    berth plan falcon.yaml --explain     # itemised memory, and why not less

    berth plan . --since origin/main --format markdown     # for a pull request

    berth plan falcon.yaml --format json
    """
    from generator import plan_tables, reports, revisions
    from generator.study import study

    found = study(paths, fleet)
    before = revisions.study_at(since, paths, fleet) if since is not None else None
    if format is Format.json:
        typer.echo(reports.plans_json(found) if before is None else plan_tables.changes_json(before, found))
    elif format is Format.markdown:
        typer.echo(plan_tables.markdown(found, before))
    else:
        plan_tables.show(found, before, explain=explain)
    if not found.valid:
        for line in reports.problems_text(found):
            typer.echo(line, err=True)
    raise typer.Exit(0 if found.valid else 1)
