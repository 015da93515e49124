"""Single values: texts, numbers and booleans, each with its schema and its name for people.

Every node reads without raising: it returns the value, or `ABSENT` after reporting why there is none. So a
wrong field costs that field alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth import quantities
from berth.spec.texts import code, listed, nearest, quote

if TYPE_CHECKING:
    from berth.problems import Path
    from berth.spec.formats import Format
    from berth.spec.reports import Report

Schema = dict[str, Any]


class Node(ABC):
    """A kind of value."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Its name on the reference page."""

    @abstractmethod
    def read(self, value: Any, path: Path, report: Report) -> Any:
        """Return the value as the typed classes hold it, or report and return `ABSENT`."""

    @abstractmethod
    def schema(self) -> Schema:
        """The value's OpenAPI schema, structural as Kubernetes demands."""


@dataclass(frozen=True)
class Text(Node):
    """A text, restricted by a format or to one of `choices`."""

    format: Format | None = None
    choices: tuple[str, ...] = ()
    longest: int = 1024

    @property
    def kind(self) -> str:
        return " or ".join(f"`{choice}`" for choice in self.choices) if self.choices else "text"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, str):
            quoted = in_quotes(value) if isinstance(value, bool | int | float) and not self.choices else ""
            fix = quoted or self._offer("")
            return report.wrong_type(path, value, "a text", fix or "write a text")
        if self.choices:
            if value in self.choices:
                return value
            return report.error(
                path,
                value,
                self._mismatch(value, path),
                self._offer(value),
                "not-allowed",
            )
        if value == "" and (self.format is None or self.format.fault(value)):
            return report.error(
                path, value, f"{last_name(path)} is empty", "give it a value or leave it out", "empty"
            )
        if self.format is not None and (fault := self.format.fault(value)):
            return report.error(path, value, fault, self.format.fix(value), "invalid-text")
        if len(value) > self.longest and self.format is None:
            reason = f"{last_name(path)} has {len(value)} characters"
            return report.error(path, value, reason, f"use at most {self.longest}", "too-long")
        return value

    def schema(self) -> Schema:
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        if self.format is None:
            return {"type": "string", "minLength": 1, "maxLength": self.longest}
        return {"type": "string", "maxLength": self.format.longest, "pattern": self.format.pattern}

    def _mismatch(self, value: str, path: Path) -> str:
        if len(self.choices) == 1:
            return f"{last_name(path)} has to be `{self.choices[0]}`, found {quote(value)}"
        return f"{quote(value)} is not one of {listed(self.choices, 'and')}"

    def _offer(self, value: str) -> str:
        if not self.choices:
            return f"write for example `{self.format.example}`" if self.format else ""
        found = nearest(value, self.choices) if value else None
        return f"write `{found}`" if found else f"write one of {listed(self.choices)}"


@dataclass(frozen=True)
class Integer(Node):
    """A whole number within bounds; where `word` is set, that word as well."""

    least: int
    most: int
    word: str | None = None

    @property
    def kind(self) -> str:
        bounds = f"whole number, {self.least:,} to {self.most:,}"
        return f"{bounds}, or `{self.word}`" if self.word else bounds

    def read(self, value: Any, path: Path, report: Report) -> Any:
        expected = f"a whole number or `{self.word}`" if self.word else "a whole number"
        if self.word is not None and value == self.word:
            return value
        if isinstance(value, str):
            digits = value.strip()
            if digits.isascii() and digits.isdigit() and len(digits) <= 12:
                fix = f"write `{int(digits)}` without quotes"
            elif (meant := self._quantity(digits)) is not None:
                fix = f"write `{meant}`: units are not read here"
            elif self.word and nearest(value, [self.word]):
                fix = f"write `{self.word}`"
            else:
                fix = f"write {expected} such as `{max(self.least, 1)}`"
            return report.wrong_type(path, value, expected, fix)
        if isinstance(value, bool) or not isinstance(value, int):
            fix = f"write {expected} such as `{max(self.least, 1)}`"
            if isinstance(value, float) and math.isfinite(value) and self.least <= value <= self.most:
                fix = f"write `{int(value)}`"
            return report.wrong_type(path, value, expected, fix)
        if value < self.least or value > self.most:
            bound = f"at least {self.least}" if value < self.least else f"at most {self.most}"
            reason = f"{last_name(path)} is {quote(value)}; it has to be {bound}"
            fix = f"write a number from {self.least} to {self.most}"
            return report.error(path, value, reason, fix, "out-of-range")
        return value

    def _quantity(self, text: str) -> int | None:
        """What `24Mi` stands for, where that is a number that may stand here."""
        try:
            found = quantities.parse(text)
        except ValueError:
            return None
        return int(found) if self.least <= found <= self.most and found == int(found) else None

    def schema(self) -> Schema:
        if self.word is None:
            return {"type": "integer", "format": "int64", "minimum": self.least, "maximum": self.most}
        rule = f"type(self) == int ? (self >= {self.least} && self <= {self.most}) : self == '{self.word}'"
        message = f"must be a whole number from {self.least} to {self.most}, or {self.word}"
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-validations": [{"rule": rule, "message": message}],
        }


@dataclass(frozen=True)
class Boolean(Node):
    """True or false."""

    @property
    def kind(self) -> str:
        return "`true` or `false`"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if isinstance(value, bool):
            return value
        return report.wrong_type(path, value, "`true` or `false`", "write `true` or `false` without quotes")

    def schema(self) -> Schema:
        return {"type": "boolean"}


def in_quotes(value: bool | int | float) -> str:
    """How a text that YAML took for something else is written; a fraction may have lost its zeros."""
    return "write it in quotes" if isinstance(value, float) else f"write it in quotes, `{quote(str(value))}`"


def last_name(path: Path) -> str:
    """The field that a path ends in, as sentences name it."""
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the document"
    return code(names[-1]) if path and isinstance(path[-1], str) else f"an entry of {code(names[-1])}"
