"""`python -m serving`: the front by default, and the programs of the pod's other containers by their names.

Each is imported when it is asked for: a container that copies a file needs no web server.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COMMANDS = {
    "fetch": ("serving.weights.commands", "fetch"),
    "verify": ("serving.weights.commands", "verify"),
    "tools": ("serving.weights.commands", "tools"),
    "worker": ("serving.workers", "main"),
}


def main(arguments: Sequence[str]) -> int:
    """Run a command, or serve; return the exit code."""
    if arguments and arguments[0] in _COMMANDS:
        module, name = _COMMANDS[arguments[0]]
        command: Callable[[Sequence[str]], int] = getattr(import_module(module), name)
        return command(arguments[1:])
    from serving import lifecycle, settings

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # What uvicorn tells of a connection that we broke off on purpose is no news.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    return lifecycle.run(settings.read(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
