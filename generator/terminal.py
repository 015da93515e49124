"""Where tables and talk are shown to people."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_OF_A_PIPE = 160
"""Columns where nobody's terminal limits a table."""


def console() -> Console:
    """Return a console as wide as the terminal; colours and borders follow what it can show."""
    from rich.console import Console

    limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if limited else WIDTH_OF_A_PIPE)
