"""Where tables and talk are shown to people."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import Console

WIDTH_OF_A_PIPE = 160
"""Columns where nobody's terminal limits a table."""


def console() -> Console:
    """Return a console as wide as the terminal; colours and borders follow what it can show."""
    from rich.console import Console

    limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if limited else WIDTH_OF_A_PIPE)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    whole: Collection[str] = (),
    numbers: bool = False,
) -> None:
    """Print rows below their head; where a row's words don't fit side by side, print a block for each row.

    The columns named in `whole` are never wrapped; `numbers` stand at the right of all columns but the first.
    """
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    screen = console()
    widths = _widths(head, rows, whole, screen.width)
    if widths is None:
        for row in rows:
            block(row[0], [(name, cell) for name, cell in zip(head[1:], row[1:], strict=True) if cell])
        return
    found = Table(box=None, header_style="bold", pad_edge=False)
    for index, (name, width) in enumerate(zip(head, widths, strict=True)):
        found.add_column(name, width=width, justify="right" if numbers and index else "left")
    for row in rows:
        found.add_row(*map(Text, row))
    screen.print(found)


def block(title: str, lines: Sequence[tuple[str, str]]) -> None:
    """Print a title and below it one line for each name and value, which is left whole at any width."""
    screen = console()
    screen.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        screen.print(f"  {name:<{width}}  {value}", markup=False, highlight=False, soft_wrap=True)


def _widths(
    head: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str], screen: int
) -> list[int] | None:
    """Return the columns' widths, the widest narrowed until all fit; None where a word would break."""
    from rich.cells import cell_len

    columns = list(zip(head, *rows, strict=True))
    least = [
        max(map(cell_len, cells if cells[0] in whole else " ".join(cells).split()), default=0)
        for cells in columns
    ]
    widths = [max(map(cell_len, cells)) for cells in columns]
    gap = 2
    while sum(widths) + gap * (len(widths) - 1) > screen:
        loose = [index for index, width in enumerate(widths) if width > least[index]]
        if not loose:
            return None
        widths[max(loose, key=lambda index: widths[index])] -= 1
    return widths
