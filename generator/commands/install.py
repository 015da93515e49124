"""`berth install`: what the cluster needs once."""

from __future__ import annotations

from typing import Annotated

import typer


def command(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR|-", help="The folder to write, or - for one stream.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the folder differs from a fresh render.")
    ] = False,
) -> None:
    """Render what the cluster needs once: the Workspace CRD and the roles that go with it.

    Examples:

      berth install --out - | kubectl apply --server-side -f -

      berth install --out platform     # to commit, for Argo CD or Flux
    """
    from generator import platform

    raise typer.Exit(platform.command_line(out, check=check))
