"""`berth init`: a fleet repository to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to write; made if it is not there.")
    ] = Path(),
) -> None:
    """Write a fleet repository to start from: two Workspaces, berth.yaml and a workflow for pull requests.

    Files that exist already are left as they are.

    Examples:

    berth init fleet && cd fleet && berth plan .
    """
    from generator import files, scaffold

    for path, written in scaffold.write(files.folder(folder)):
        typer.echo(f"{'wrote' if written else 'kept '} {path}", err=True)
    typer.echo(f"next: berth plan {folder / 'workspaces'}", err=True)
