"""`berth import`: KAITO's Workspaces become a fleet repository."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How the report is written."""

    text = "text"
    json = "json"


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]", help="Files, folders, or - for standard input.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="The repository to write; absent: only report."),
    ] = None,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Read the cluster of kubectl's current context.")
    ] = False,
    context: Annotated[
        str | None, typer.Option("--context", metavar="NAME", help="Another context, with --cluster.")
    ] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the report.")] = Format.text,
) -> None:
    """Bring KAITO's Workspaces over: from files or a cluster into a fleet repository, with what differs.

    Sources are never changed, and a file that is there already is never overwritten. Exit code 1 says that
    something is left to do by hand.

    Examples:

    berth import manifests --out fleet

    berth import --cluster --out fleet

    kubectl get workspaces -A -o yaml | berth import - --out fleet
    """
    from generator import files, reports
    from generator.importing import bringing, reading, report
    from generator.kubectl import Kubectl

    if bool(paths) == cluster:
        typer.echo("error: give files or folders, or --cluster", err=True)
        raise typer.Exit(2)
    if context is not None and not cluster:
        typer.echo("error: --context belongs to --cluster", err=True)
        raise typer.Exit(2)
    if out is not None:
        files.folder(out)
    pieces = list(reading.from_cluster(Kubectl(context)) if cluster else reading.from_paths(paths or []))
    if not pieces:
        typer.echo("error: there is nothing of KAITO's: no object of kaito.sh was found", err=True)
        raise typer.Exit(2)
    found = bringing.decide(pieces, out)
    written = bringing.write(found, out) if out is not None else []
    if format is Format.json:
        typer.echo(report.as_json(found, written))
    else:
        for line in report.lines(found, written if out is not None else None):
            typer.echo(line)
    typer.echo(report.summary(found), err=True)
    if out is not None:
        files_written = reports.counted(len(written), "file", "files") if written else "nothing"
        typer.echo(f"{out}: {files_written} written; next: berth check {out}", err=True)
    raise typer.Exit(0 if found.complete else 1)
