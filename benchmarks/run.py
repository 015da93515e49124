"""Every benchmark of the command line and of the webhook, one after the other: `make bench`.

Seconds depend on the machine; the ratios, taken in one run, are what a change is judged by.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = ("render_cold.py", "render_unchanged.py", "check.py", "admission.py")


def main() -> int:
    """Run them all and return 1 if one could not run."""
    folder = Path(__file__).resolve().parent
    codes = [subprocess.run([sys.executable, folder / name], check=False).returncode for name in BENCHMARKS]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
