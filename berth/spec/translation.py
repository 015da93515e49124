"""Between pydantic and everything else: its complaints in our words, its schemas for editors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from berth.problems import Path, Problem
from berth.spec import formats
from berth.spec.texts import code, listed, nearest, quote
from berth.spec.values import in_quotes

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from berth.spec.reports import Report

_EXPECTED = {
    "string_type": ("a text", "write it in quotes"),
    "int_type": ("a whole number", "write a whole number without quotes"),
    "int_from_float": ("a whole number", "write a whole number"),
    "float_type": ("a number", "write a number without quotes"),
    "finite_number": ("a number", "write a number"),
    "bool_type": ("`true` or `false`", "write `true` or `false` without quotes"),
    "tuple_type": ("a list", "write it as a list: `- ` before each entry"),
    "dict_type": ("a mapping", "write it as `key: value` lines"),
    "model_type": ("a mapping", "write it as `key: value` lines"),
    "model_attributes_type": ("a mapping", "write it as `key: value` lines"),
}

_BOUNDS = {"greater_than_equal": "at least", "less_than_equal": "at most"}
_EXAMPLE = "see docs/reference/fleet.md"


def translated(error: ValidationError, model: type[BaseModel], document: Any) -> list[Problem]:
    """Return one problem for each complaint, with the value as it stands in the document."""
    details = error.errors(include_url=False)
    deeper = {detail["loc"][:-1] for detail in details}
    return [
        _problem(detail, model, document)
        for detail in details
        if detail["type"] != "too_short" or detail["loc"] not in deeper
    ]


def without_null(value: Any, path: Path, report: Report, raw: Collection[str]) -> Any:
    """Report every null and leave it out; the top-level fields named in `raw` are judged elsewhere."""
    if isinstance(value, list):
        items = [(index, item) for index, item in enumerate(value) if not _null(item, (*path, index), report)]
        return [without_null(item, (*path, index), report, raw) for index, item in items]
    if not isinstance(value, Mapping) or (len(path) == 1 and path[0] in raw):
        return value
    entries = [(key, item) for key, item in value.items() if not _null(item, (*path, key), report)]
    return {key: without_null(item, (*path, key), report, raw) for key, item in entries}


def _null(value: Any, path: Path, report: Report) -> bool:
    if value is not None:
        return False
    reason = f"{code(str(path[-1]))} has no value (null)"
    report.error(path, None, reason, "give it a value or leave it out", "null")
    return True


def for_editors(node: Any) -> Any:
    """Drop what only programs need, offer no null, and let editors mark unknown keys everywhere."""
    if isinstance(node, list):
        return [for_editors(item) for item in node]
    if not isinstance(node, dict):
        return node
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        node = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        node = {**rest[0], **node} if len(rest) == 1 else {**node, "anyOf": rest}
    if "properties" in node or "patternProperties" in node:
        node = {"additionalProperties": False, **node}
    kept = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if isinstance(kept.get("title"), str):
        del kept["title"]
    return {key: for_editors(value) for key, value in kept.items()}


def _problem(detail: ErrorDetails, model: type[BaseModel], document: Any) -> Problem:
    path: Path = tuple(part for part in detail["loc"] if part != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    value = _at(document, path)
    name = code(str(path[-1])) if path else "the document"
    if kind == "extra_forbidden":
        return _unknown(path, value, _at(document, path[:-1]), model)
    if path and not isinstance(path[-1], str) and isinstance(_at(document, path[:-1]), Mapping):
        key = quote(path[-1])
        return Problem(
            (*path[:-1], key), value, f"the key {key} is no text", "write it in quotes", rule="wrong-type"
        )
    if kind == "missing":
        return Problem(path, None, f"{name} is missing", f"add {name}", rule="missing")
    if "[key]" in detail["loc"]:
        return _misspelt(path, value, str(path[-1]), context)
    if kind in _EXPECTED:
        expected, fix = _EXPECTED[kind]
        shown = f"the text {quote(value)}" if isinstance(value, str) else quote(value)
        if kind == "string_type" and isinstance(value, bool | int | float):
            fix = in_quotes(value)
        return Problem(path, value, f"expected {expected}, found {shown}", fix, rule="wrong-type")
    if kind == "literal_error":
        return _not_allowed(path, value, _choices(str(context["expected"])))
    if kind == "string_pattern_mismatch":
        return _misspelt(path, value, str(value), context)
    if kind in _BOUNDS:
        bound = f"{_BOUNDS[kind]} {context['ge' if kind.startswith('greater') else 'le']:g}"
        reason = f"{name} is {quote(value)}; it has to be {bound}"
        return Problem(path, value, reason, f"write a number of {bound}", rule="out-of-range")
    if kind == "too_short":
        return Problem(path, value, f"{name} is empty", "give at least one entry", rule="empty")
    if kind == "too_long":
        reason = f"{name} has {len(value)} entries; at most {context['max_length']} are allowed"
        return Problem(path, value, reason, "shorten the list", rule="too-many")
    message = str(detail["msg"]).removeprefix("Value error, ")
    reason = f"{name} is {quote(value)}: {message[:1].lower()}{message[1:]}"
    return Problem(path, value, reason, "change it", rule="out-of-range")


def _unknown(path: Path, value: Any, parent: Any, model: type[BaseModel]) -> Problem:
    key = str(path[-1])
    owner = _model_at(model, path[:-1])
    names = [_alias(owner, name) for name in owner.model_fields] if owner else []
    free = [name for name in names if not (isinstance(parent, dict) and name in parent)]
    found = nearest(key, free or names)
    if found and found.lower() == key.lower():
        fix = f"write `{found}`: upper and lower case matter"
    elif found:
        fix = f"write `{found}`"
    else:
        fix = f"remove it; known here are {listed(names, 'and')}" if names else "remove it"
    return Problem(path, value, f"unknown field {code(key)}", fix, rule="unknown-field")


def _not_allowed(path: Path, value: Any, choices: list[str]) -> Problem:
    found = nearest(value, choices) if isinstance(value, str) else None
    fix = f"write `{found}`" if found else f"write one of {listed(choices)}"
    return Problem(
        path, value, f"{quote(value)} is not one of {listed(choices, 'and')}", fix, rule="not-allowed"
    )


def _choices(expected: str) -> list[str]:
    return [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]


def _misspelt(path: Path, value: Any, text: str, context: Mapping[str, Any]) -> Problem:
    form = formats.BY_PATTERN.get(str(context.get("pattern")))
    reason = (form.fault(text) if form else None) or f"{quote(text)} is not written as it has to be"
    return Problem(path, value, reason, form.fix(text) if form else _EXAMPLE, rule="invalid-text")


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {_alias(current, name): info.annotation for name, info in current.model_fields.items()}
            current = _bare(fields.get(str(part)))
        else:
            arguments = get_args(current)
            current = _bare(
                arguments[-1] if len(arguments) == 2 and arguments[1] is not ... else arguments[0]
            )
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _bare(annotation: Any) -> Any:
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    return arguments[0] if len(arguments) == 1 and type(None) in get_args(annotation) else annotation


def _alias(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name


def _at(document: Any, path: Path) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document
