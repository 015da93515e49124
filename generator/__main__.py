"""The program `berth`: `python -m generator` is the same."""

from __future__ import annotations

import gc
import io
import os
import sys


def main() -> None:
    """Run the command line; exit codes are 0 fine, 1 problems, 2 could not run, 130 interrupted by Ctrl-C."""
    from generator import interrupts

    interrupts.arrange()
    # A short-lived process: looking for cycles in a thousand small documents costs more than it frees.
    gc.disable()
    _open_closed_streams()
    _write_every_letter()
    try:
        code = _run()
    except BaseException:
        if interrupts.seen():
            interrupts.leave()
        raise
    if code and interrupts.seen():
        interrupts.leave()
    sys.exit(code)


def _run() -> int:
    from generator import quick

    code = quick.render(sys.argv[1:])
    if code is None:
        from generator import cli

        code = cli.run(sys.argv[1:])
    return code


def _open_closed_streams() -> None:
    """Have what goes to a closed stdout or stderr (`>&-`) go nowhere; no other file takes its number."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _write_every_letter() -> None:
    """Have files and pipes get UTF-8, as JSON and YAML are, and an older terminal `?` for what it has not."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8")


if __name__ == "__main__":
    main()
