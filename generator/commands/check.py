"""`berth check`: every problem in every file."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from generator.options import FleetFile, Paths


class Format(StrEnum):
    """How the problems are written."""

    text = "text"
    json = "json"
    github = "github"


def command(
    paths: Paths,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How to write the problems.")
    ] = Format.text,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the warnings.")] = False,
    fleet: FleetFile = None,
) -> None:
    """Report every problem of every Workspace, with its line, reason and fix.

    The cluster's webhook applies the same rules with the same words.

    Examples:

    berth check .

    berth check models/falcon.yaml --format json

    cat falcon.yaml | berth check -
    """
    from generator import reports
    from generator.study import study

    found = study(paths, fleet)
    if format is Format.json:
        typer.echo(reports.problems_json(found))
    else:
        lines = reports.problems_github if format is Format.github else reports.problems_text
        text = "\n".join(lines(found, errors_only=quiet))
        if text:
            typer.echo(text)
        typer.echo(reports.summary(found), err=True)
    raise typer.Exit(0 if found.valid else 1)
