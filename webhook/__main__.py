"""`python -m webhook`: the admission server, and `python -m webhook rotate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kube import logs
from webhook import settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says and return the exit code."""
    given = settings.read(arguments)
    logs.set_up(given.log_level)
    # Each command loads what it needs: the server's half is of no use to the other.
    if given.command == "rotate":
        from webhook import rotating

        return rotating.run(given)
    from webhook import server

    return server.run(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
