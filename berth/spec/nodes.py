"""The schema language: what a field may hold, how it is read, and what the CRD says of it.

Every node reads without raising: it returns the value, or `ABSENT` after reporting why there is none. So a
wrong field costs that field alone. The same nodes give the OpenAPI schema (`schema`) and the reference
page (`kind`), which therefore cannot drift from what is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from berth.problems import Path
from berth.spec.reports import ABSENT, Report
from berth.spec.texts import code, listed, nearest, quote

if TYPE_CHECKING:
    from berth.spec.formats import Format

Schema = dict[str, Any]
Verdict = Callable[[Any, Path, Report], None]
"""Judges a value that was read well: warns, refuses, or says nothing."""

MOST_UNKNOWN_FIELDS = 20
"""Of one mapping that are reported one by one; the rest are counted."""


class Node:
    """A kind of value."""

    @property
    def kind(self) -> str:
        """Its name on the reference page."""
        raise NotImplementedError

    def read(self, value: Any, path: Path, report: Report) -> Any:
        """Return the value as the typed classes hold it, or report and return `ABSENT`."""
        raise NotImplementedError

    def schema(self) -> Schema:
        """The value's OpenAPI schema, structural as Kubernetes demands."""
        raise NotImplementedError


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
            quoted = f"write it in quotes, `{quote(str(value))}`"
            simple = isinstance(value, bool | int | float)
            fix = quoted if simple and not self.choices else self._offer("")
            return report.wrong_type(path, value, "a text", fix or "write a text")
        if self.choices:
            if value in self.choices:
                return value
            return report.error(
                path,
                value,
                f"{quote(value)} is not one of {listed(self.choices, 'and')}",
                self._offer(value),
                "not-allowed",
            )
        if value == "" and (self.format is None or self.format.fault(value)):
            return report.error(
                path, value, f"{_last(path)} is empty", "give it a value or leave it out", "empty"
            )
        if self.format is not None and (fault := self.format.fault(value)):
            return report.error(path, value, fault, self.format.fix(value), "invalid-text")
        if len(value) > self.longest and self.format is None:
            reason = f"{_last(path)} has {len(value)} characters"
            return report.error(path, value, reason, f"use at most {self.longest}", "too-long")
        return value

    def schema(self) -> Schema:
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        if self.format is None:
            return {"type": "string", "minLength": 1, "maxLength": self.longest}
        return {"type": "string", "maxLength": self.format.longest, "pattern": self.format.pattern}

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
            side = f"at least {self.least}" if value < self.least else f"at most {self.most}"
            reason = f"{_last(path)} is {quote(value)}; {side} is allowed"
            return report.error(
                path, value, reason, f"write a number from {self.least} to {self.most}", "out-of-range"
            )
        return value

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


@dataclass(frozen=True)
class Sequence(Node):
    """A list of one kind of value; read as a tuple of those items that could be read."""

    item: Node
    most: int
    least: int = 0

    @property
    def kind(self) -> str:
        return f"list of {self.item.kind}"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, list | tuple):
            fix = "write it as a list: `- ` before each entry"
            return report.wrong_type(path, value, "a list", fix)
        if len(value) > self.most:
            reason = f"{_last(path)} has {len(value)} entries; at most {self.most} are allowed"
            return report.error(path, value, reason, "shorten the list", "too-many")
        if len(value) < self.least:
            return report.error(path, value, f"{_last(path)} is empty", "give at least one entry", "empty")
        items = (read_item(self.item, entry, (*path, index), report) for index, entry in enumerate(value))
        return tuple(item for item in items if item is not ABSENT)

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "maxItems": self.most, "items": self.item.schema()}
        return {**schema, "minItems": self.least} if self.least else schema


@dataclass(frozen=True)
class Table(Node):
    """A mapping with free keys; read as a dict of those entries that could be read."""

    key: Format
    value: Node
    most: int = 64
    key_verdict: Callable[[str], tuple[str, str] | None] | None = None
    """Reason and fix where a well-formed key is not the user's to set."""

    @property
    def kind(self) -> str:
        return f"mapping to {self.value.kind}"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, Mapping):
            return report.wrong_type(path, value, "a mapping", "write it as `key: value` lines")
        if len(value) > self.most:
            reason = f"{_last(path)} has {len(value)} entries; at most {self.most} are allowed"
            return report.error(path, value, reason, "remove some", "too-many")
        result: dict[str, Any] = {}
        for key, entry in value.items():
            here = (*path, key if isinstance(key, str) else quote(key))
            if not isinstance(key, str):
                report.error(
                    here, entry, f"the key {quote(key)} is no text", "write the key in quotes", "wrong-type"
                )
            elif fault := self.key.fault(key):
                report.error(here, entry, fault, self.key.fix(key), "invalid-text")
            elif self.key_verdict and (refusal := self.key_verdict(key)):
                report.error(here, entry, *refusal, "reserved")
            elif (item := read_item(self.value, entry, here, report)) is not ABSENT:
                result[key] = item
        return result

    def schema(self) -> Schema:
        return {"type": "object", "maxProperties": self.most, "additionalProperties": self.value.schema()}


@dataclass(frozen=True)
class Opaque(Node):
    """Any mapping that JSON can hold, kept as it is; Kubernetes judges its content."""

    @property
    def kind(self) -> str:
        return "mapping"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, Mapping):
            return report.wrong_type(path, value, "a mapping", "write it as `key: value` lines")
        if report.not_json(value, path):
            report.broken.add(path)
            return ABSENT
        return value

    def schema(self) -> Schema:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@dataclass(frozen=True)
class Refused(Node):
    """A mapping that is refused as a whole; nothing in it is judged, and the CRD still knows its fields."""

    inside: Node

    @property
    def kind(self) -> str:
        return self.inside.kind

    def read(self, value: Any, path: Path, report: Report) -> Any:
        return Opaque().read(value, path, report)

    def schema(self) -> Schema:
        return self.inside.schema()


Use = Literal["used", "warning", "refused"]


@dataclass(frozen=True)
class Field:
    """One field of a mapping. `note` says what happens instead, where `use` is not 'used'."""

    node: Node
    description: str
    required: bool = False
    use: Use = "used"
    note: str = ""
    default: str = ""
    verdict: Verdict | None = None

    def schema(self) -> Schema:
        """The field's OpenAPI schema with its description; a refused one never validates."""
        schema = {"description": f"{self.description} {self.note}".strip(), **self.node.schema()}
        if self.use != "refused":
            return schema
        rule = "self.size() == 0" if isinstance(self.node, Sequence) else "false"
        refusal = {"rule": rule, "message": f"not supported: {self.note}"}
        return {**schema, "x-kubernetes-validations": [*schema.get("x-kubernetes-validations", []), refusal]}


@dataclass(frozen=True)
class Struct(Node):
    """A mapping with known fields; read as a dict of those that could be read.

    `rules` are CEL expressions with their messages, for what a CRD can judge; `verdict` is the same
    judgement, and more, when a document is read.
    """

    fields: Mapping[str, Field]
    rules: tuple[tuple[str, str], ...] = ()
    verdict: Verdict | None = None
    atomic: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)
    """Fixes for names that people write here and that belong elsewhere."""

    @property
    def kind(self) -> str:
        return "mapping"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, Mapping):
            names = listed(list(self.fields)[:6], "and")
            return report.wrong_type(
                path, value, "a mapping", f"write it as `key: value` lines; it knows {names}"
            )
        result: dict[str, Any] = {}
        unknown = [key for key in value if key not in self.fields]
        for key in unknown[:MOST_UNKNOWN_FIELDS]:
            self._refuse(key, value[key], value, path, report)
        if len(unknown) > MOST_UNKNOWN_FIELDS:
            reason = f"{len(unknown) - MOST_UNKNOWN_FIELDS} more unknown fields in {_last(path)}"
            report.error(path, value, reason, "remove them", "unknown-field")
        for name, known in self.fields.items():
            if name in value:
                item = read_item(known.node, value[name], (*path, name), report)
                if item is not ABSENT:
                    result[name] = item
                    if known.verdict is not None:
                        known.verdict(item, (*path, name), report)
            elif known.required:
                reason = f"{code(name)} is missing"
                report.error(
                    (*path, name), None, reason, f"add {code(name)}: {_first(known.description)}", "missing"
                )
        if self.verdict is not None:
            self.verdict(result, path, report)
        return result

    def schema(self) -> Schema:
        schema: Schema = {"type": "object", "properties": {}}
        for name, known in self.fields.items():
            schema["properties"][name] = known.schema()
        if required := [name for name, known in self.fields.items() if known.required]:
            schema["required"] = required
        if self.rules:
            schema["x-kubernetes-validations"] = [
                {"rule": rule, "message": text} for rule, text in self.rules
            ]
        return {**schema, "x-kubernetes-map-type": "atomic"} if self.atomic else schema

    def _refuse(self, key: Any, entry: Any, value: Mapping[Any, Any], path: Path, report: Report) -> None:
        if not isinstance(key, str):
            reason = f"the key {quote(key)} is no text"
            report.error((*path, quote(key)), entry, reason, "remove it", "unknown-field")
            return
        found = nearest(key, [name for name in self.fields if name not in value] or list(self.fields))
        if key in self.hints:
            fix = self.hints[key]
        elif found and found.lower() == key.lower():
            fix = f"write `{found}`: upper and lower case matter"
        elif place := report.place(key):
            fix = f"move it to `{place}`"
        elif found:
            fix = f"write `{found}`"
        else:
            fix = f"remove it; {_last(path)} knows {listed(self.fields, 'and')}"
        report.error((*path, key), entry, f"unknown field {code(key)}", fix, "unknown-field")


def read_item(node: Node, value: Any, path: Path, report: Report) -> Any:
    """Read one value; null is a mistake everywhere, since Kubernetes refuses or drops it."""
    if value is None:
        fix = "give it a value or leave it out"
        return report.error(path, None, f"{_last(path)} has no value (null)", fix, "null")
    return node.read(value, path, report)


def _last(path: Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return "the document"
    return code(names[-1]) if path and isinstance(path[-1], str) else f"an entry of {code(names[-1])}"


def _first(description: str) -> str:
    sentence = description.split(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]
