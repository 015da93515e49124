"""`berth install`: what the cluster needs once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def command(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR|-", help="The folder to write, or - for one stream.")
    ],
    fleet: Annotated[
        Path | None,
        typer.Option(
            "--fleet", metavar="FILE", exists=True, dir_okay=False, help="The fleet file; absent: defaults."
        ),
    ] = None,
    certificates: Annotated[
        Literal["own", "cert-manager"],
        typer.Option(
            "--certificates",
            metavar="own|cert-manager",
            help="Who makes the webhook's certificates: itself, or cert-manager.",
        ),
    ] = "own",
    watcher: Annotated[
        bool, typer.Option("--watcher/--no-watcher", help="Whether the node watcher belongs to it.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--watcher-dry-run", help="Let the watcher only say what it would do.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the folder differs from a fresh render.")
    ] = False,
) -> None:
    """Render what the cluster needs once: the Workspace CRD, the admission webhook and the node watcher.

    Examples:

      berth install --out - --fleet berth.yaml | kubectl apply --server-side -f -

      berth install --out platform     # to commit, for Argo CD or Flux
    """
    from generator.platform import output

    code = output.command_line(
        out, check=check, fleet=fleet, certificates=certificates, watcher=watcher, dry_run=dry_run
    )
    raise typer.Exit(code)
