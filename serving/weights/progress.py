"""Lines about a long download: what is there, how fast, how long still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = 10.0
"""Seconds between two lines."""


def amount(size: float) -> str:
    """Write bytes for people.

    >>> amount(1536 * 2**20), amount(300)
    ('1.5 GiB', '300 bytes')
    """
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size:.0f} bytes"


class Progress:
    """Tells how far one file is, every few seconds."""

    def __init__(self, name: str, size: int | None, say: Callable[[str], None]) -> None:
        self.name, self.size, self.say = name, size, say
        self._start = self._told = time.monotonic()
        self._from = 0

    def start(self, offset: int) -> None:
        """Begin to measure at this byte."""
        self._start = self._told = time.monotonic()
        self._from = offset

    def at(self, offset: int) -> None:
        """Note how far it is."""
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told = now
        speed = max(0, offset - self._from) / (now - self._start)
        line = f"{self.name}: {self.text(offset)}, {amount(speed)} a second"
        if self.size is not None and speed > 0:
            line += f", {(self.size - offset) / speed:.0f} s left"
        self.say(line)

    def text(self, offset: int) -> str:
        """Write how far it is."""
        return amount(offset) + (f" of {amount(self.size)}" if self.size is not None else "")
