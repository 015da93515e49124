"""Puts the static copy program where the container of a weights image can run it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from serving.weights.errors import WeightsError

PROGRAM = "/usr/local/lib/berth/copy"
"""Where the image's build leaves it, compiled from `serving/copy/copy.c`."""


def install(target: Path) -> None:
    """Copy the program to a path that another container mounts, executable for everybody.

    Raises:
        WeightsError: this installation has no such program.
    """
    program = Path(os.environ.get("BERTH_COPY", PROGRAM))
    if not program.is_file():
        raise WeightsError(
            f"there is no copy program at {program}: the serving image has it; elsewhere compile it with "
            "`cc -static -Os -o copy serving/copy/copy.c` and name it in BERTH_COPY"
        )
    temporary = target.with_name(f".{target.name}.new")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(program, temporary)
    temporary.chmod(0o755)
    temporary.replace(target)
