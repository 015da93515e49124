"""The list that a reader fills: problems, and the fields that could not be read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from berth.problems import Path, Problem
from berth.spec.texts import quote

ABSENT: Any = object()
"""What a reader returns for a value that could not be read; never a value of a document."""

DEEPEST = 60
"""Levels of nesting; Kubernetes' own objects stay below 30."""


class Report:
    """Collects what is wrong while a document is read; `places` finds a field's home by its name."""

    def __init__(self, places: Mapping[str, str] | None = None) -> None:
        self.problems: list[Problem] = []
        self.broken: set[Path] = set()
        self._places = places or {}

    def error(self, path: Path, value: Any, reason: str, fix: str, rule: str) -> Any:
        """Report an error; returns `ABSENT`, so that a reader can return its outcome."""
        self.problems.append(Problem(path, value, reason, fix, "error", rule))
        self.broken.add(path)
        return ABSENT

    def wrong_type(self, path: Path, value: Any, expected: str, fix: str) -> Any:
        """Report a value of the wrong type."""
        shown = f"the text {quote(value)}" if isinstance(value, str) else quote(value)
        return self.error(path, value, f"expected {expected}, found {shown}", fix, "wrong-type")

    def warn(self, path: Path, value: Any, reason: str, fix: str, rule: str) -> None:
        """Report what is accepted and does not do what its author may expect."""
        self.problems.append(Problem(path, value, reason, fix, "warning", rule))

    def place(self, name: str) -> str | None:
        """The one place of the schema for a field of this name, None where it has none or several."""
        return self._places.get(name.lower())

    def not_json(self, value: Any, path: Path) -> bool:
        """Report the first part of a free-form value that JSON cannot hold; whether there is one."""
        stack: list[tuple[Any, Path]] = [(value, path)]
        while stack:
            item, here = stack.pop()
            if len(here) - len(path) > DEEPEST:
                self.error(path, value, f"nested more than {DEEPEST} levels deep", "flatten it", "too-deep")
                return True
            if isinstance(item, Mapping):
                for key in item:
                    if not isinstance(key, str):
                        place = (*here, quote(key))
                        reason = f"the key {quote(key)} is no text"
                        self.error(place, item[key], reason, "write the key in quotes", "wrong-type")
                        return True
                stack.extend((entry, (*here, key)) for key, entry in item.items())
            elif isinstance(item, list | tuple):
                stack.extend((entry, (*here, index)) for index, entry in enumerate(item))
            elif isinstance(item, float) and not math.isfinite(item):
                self.error(
                    here, item, f"{item} is no number that JSON can hold", "write a number", "wrong-type"
                )
                return True
            elif item is not None and not isinstance(item, str | bool | int | float):
                reason = f"{quote(item)} is nothing that JSON can hold"
                self.error(here, item, reason, "write it in quotes", "wrong-type")
                return True
        return False
