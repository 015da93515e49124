"""The program `berth`: `python -m generator` is the same."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; exit codes are 0 fine, 1 problems, 2 could not run."""
    from generator import quick

    # A short-lived process: looking for cycles in a thousand small documents costs more than it frees.
    gc.disable()
    code = quick.render(sys.argv[1:])
    if code is None:
        from generator import cli

        code = cli.run(sys.argv[1:])
    sys.exit(code)


if __name__ == "__main__":
    main()
