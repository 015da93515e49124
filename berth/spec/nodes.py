"""Lists and mappings of values, and the fields they are made of.

The same nodes give the OpenAPI schema (`schema`) and the reference page (`kind`), which therefore cannot
drift from what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from berth.problems import Path
from berth.spec.reports import ABSENT, Report
from berth.spec.texts import code, listed, nearest, quote
from berth.spec.values import Node, Schema, last_name

if TYPE_CHECKING:
    from berth.spec.formats import Format

Verdict = Callable[[Any, Path, Report], None]
"""Judges a value that was read well: warns, refuses, or says nothing."""

MOST_UNKNOWN_FIELDS = 20
"""Of one mapping that are reported one by one; the rest are counted."""


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
            reason = f"{last_name(path)} has {len(value)} entries; at most {self.most} are allowed"
            return report.error(path, value, reason, "shorten the list", "too-many")
        if len(value) < self.least:
            return report.error(
                path, value, f"{last_name(path)} is empty", "give at least one entry", "empty"
            )
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
    rules: tuple[tuple[str, str], ...] = ()
    """CEL expressions with their messages."""

    @property
    def kind(self) -> str:
        return f"mapping to {self.value.kind}"

    def read(self, value: Any, path: Path, report: Report) -> Any:
        if not isinstance(value, Mapping):
            return report.wrong_type(path, value, "a mapping", "write it as `key: value` lines")
        if len(value) > self.most:
            reason = f"{last_name(path)} has {len(value)} entries; at most {self.most} are allowed"
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
        schema = {"type": "object", "maxProperties": self.most, "additionalProperties": self.value.schema()}
        return _with_rules(schema, self.rules)


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
            reason = f"{len(unknown) - MOST_UNKNOWN_FIELDS} more unknown fields in {last_name(path)}"
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
            fix = f"remove it; {last_name(path)} knows {listed(self.fields, 'and')}"
        report.error((*path, key), entry, f"unknown field {code(key)}", fix, "unknown-field")


def read_item(node: Node, value: Any, path: Path, report: Report) -> Any:
    """Read one value; null is a mistake everywhere, since Kubernetes refuses or drops it."""
    if value is None:
        fix = "give it a value or leave it out"
        return report.error(path, None, f"{last_name(path)} has no value (null)", fix, "null")
    return node.read(value, path, report)


def _with_rules(schema: Schema, rules: tuple[tuple[str, str], ...]) -> Schema:
    if not rules:
        return schema
    return {**schema, "x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in rules]}


def _first(description: str) -> str:
    sentence = description.split(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]
