"""`python -m watcher`: make the nodes that rendered Workspaces ask for, and tell how far they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvloop

from kube import logs
from watcher import service, settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    given = settings.read(arguments)
    logs.set_up(given.log_level)
    return uvloop.run(service.serve(given))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
