"""Wording that every problem shares: values quoted in one short line, names that come close."""

from __future__ import annotations

import difflib
import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_NAME = 80
"""Characters of a name that is still compared with the known ones."""


def quote(value: Any, limit: int = 60) -> str:
    """Write a value as one short line without control characters, as JSON would write it.

    >>> quote("two\\nlines"), quote(True), quote({"a": 1})
    ('"two\\\\nlines"', 'true', 'a mapping')
    """
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    if isinstance(value, str):
        shown = value if len(value) <= limit else value[: limit - 1] + "…"
        return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in _json(shown))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return _json(value)
    return f"a {type(value).__name__}"


def code(name: str) -> str:
    """Write a name of a field in backticks, short and in one line."""
    return f"`{quote(name)[1:-1]}`"


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` was most likely meant to be, None where none comes close.

    >>> nearest("instancetype", ["instanceType", "count"])
    'instanceType'
    """
    if len(name) > LONGEST_NAME:
        return None
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(_fold(candidate), candidate)
    found = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=0.65)
    return folded[found[0]] if found else None


def listed(names: Iterable[str], word: str = "or") -> str:
    """Write names as a sentence does.

    >>> listed(["a", "b", "c"])
    '`a`, `b` or `c`'
    """
    written = [code(name) for name in names]
    return written[0] if len(written) == 1 else f"{', '.join(written[:-1])} {word} {written[-1]}"


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(".", "")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
