"""`berth render`: Workspaces become manifests."""

from __future__ import annotations

from typing import Annotated

import typer

from generator.options import FleetFile, Paths


def command(
    paths: Paths,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR|-", help="The folder to write, or - for one stream.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the folder differs from a fresh render.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out the warnings.")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", min=1, max=64, help="Processes that render.")
    ] = None,
    fleet: FleetFile = None,
) -> None:
    """Render the manifests of every Workspace: one folder each, one file an object.

    Workspaces that did not change are not rendered again. Files that berth did not write are never touched.

    Examples:

    berth render models --out rendered

    berth render models --out rendered --check     # in CI: is it complete?

    berth render falcon.yaml --out - | kubectl apply -f -
    """
    from generator import render

    raise typer.Exit(render.command_line(paths, out=out, check=check, jobs=jobs, fleet=fleet, quiet=quiet))
