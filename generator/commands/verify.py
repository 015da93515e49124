"""`berth verify`: has anybody edited what was rendered?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `berth render` wrote.")],
) -> None:
    """Derive the rendered folder again from its provenance and report every edit by hand.

    Examples:

    berth verify rendered
    """
    from generator import verify

    raise typer.Exit(verify.command_line(folder))
