"""The program `berth`: `python -m generator` is the same."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exit codes are 0 fine, 1 problems, 2 could not run."""
    from generator import cli

    sys.exit(cli.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
