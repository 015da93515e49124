"""One YAML or JSON document: its text, the plain data in it, and where every field stands.

A document is composed by libyaml and built here, with limits on nodes and depth, so that a hostile file
costs milliseconds and ends in a clear problem. Positions are worked out again from the text, and only for
documents with problems: a fine fleet of a thousand Workspaces pays nothing for them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml
from yaml._yaml import CParser
from yaml.nodes import MappingNode, Node, ScalarNode

from berth.spec.texts import quote
from generator import scalars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.problems import Path

MOST_NODES = 100_000
"""Values of one file, those behind aliases counted as often as they are used."""
DEEPEST = 100
"""Levels of nesting."""

_SMALL = MOST_NODES // 2
"""Characters of a text that can't hold too many values."""

_PLAIN, _QUOTED, _MERGE = "plain", "quoted", "<<"


class UnreadableError(Exception):
    """The text is no YAML that can be read; `line` and `column` count from 1 within it."""

    def __init__(self, reason: str, fix: str = "", line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.fix, self.line, self.column = reason, fix, line, column


@dataclass(frozen=True, slots=True)
class Repeated:
    """A key that stands twice in one mapping; the later one counts, as in Kubernetes."""

    path: Path
    line: int
    column: int
    first_line: int


class Budget:
    """How many values a file may still hold."""

    def __init__(self, values: int = MOST_NODES) -> None:
        self.left = values

    def spend(self, values: int = 1) -> None:
        """Count values.

        Raises:
            UnreadableError: there are too many.
        """
        self.left -= values
        if self.left < 0:
            raise UnreadableError(
                f"the file has more than {MOST_NODES:,} values", "split it into several files"
            )


class _Composer(CParser):
    """libyaml's composer, which tells plain from quoted scalars."""

    budget = Budget()

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str | None:
        return (_PLAIN if implicit[0] else _QUOTED) if kind is ScalarNode else None

    def descend_resolver(self, parent: Node | None, index: Any) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


class _CountingComposer(_Composer):
    """Stops in the middle of a text that holds too much; counting costs a third more time."""

    def descend_resolver(self, parent: Node | None, index: Any) -> None:
        self.budget.spend()


@dataclass
class _Builder:
    """Turns composed nodes into plain data, counting what aliases repeat."""

    budget: Budget
    repeats: bool = False

    def build(self, node: Node, depth: int = 0) -> Any:
        self.budget.left -= 1
        if node.__class__ is ScalarNode:
            return _value(node)
        if self.budget.left < 0:
            self.budget.spend(0)
        if depth > DEEPEST:
            line = node.start_mark.line + 1
            raise UnreadableError(
                f"the document is nested more than {DEEPEST} levels deep", "flatten it", line
            )
        if node.__class__ is MappingNode:
            return self._mapping(node, depth + 1)
        return [self.build(item, depth + 1) for item in node.value]

    def _mapping(self, node: Node, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.value == _MERGE and _is_merge(key_node):
                self._merge(value_node, merged, depth)
            else:
                key = _key(key_node)
                self.repeats = self.repeats or key in result
                result[key] = self.build(value_node, depth)
        return {**merged, **result} if merged else result

    def _merge(self, node: Node, merged: dict[str, Any], depth: int) -> None:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for source in reversed(sources):
            if not isinstance(source, MappingNode):
                mark = source.start_mark
                raise UnreadableError(
                    "`<<` takes a mapping", "name an anchor", mark.line + 1, mark.column + 1
                )
            merged.update(self.build(source, depth))


def compose(text: str, budget: Budget | None = None) -> Node | None:
    """Return the node tree of one document, None of an empty one.

    Raises:
        UnreadableError: it is no YAML, or too much of it.
    """
    try:
        composer = _Composer(text) if len(text) <= _SMALL else _CountingComposer(text)
        composer.budget = Budget(budget.left if budget else MOST_NODES)
        try:
            node: Node | None = composer.get_single_node()
        finally:
            composer.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None and text[mark.index : mark.index + 1] == "\t":
            reason, fix = "a tab stands where YAML takes spaces alone", "indent with spaces"
            raise UnreadableError(reason, fix, mark.line + 1, mark.column + 1) from None
        reason = f"this is no YAML: {quote(error.problem or error.context or 'syntax error', 120)[1:-1]}"
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise UnreadableError(reason, "check quotes, colons and indentation", line, column) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character U+{error.character:04X} is not allowed in YAML"
        raise UnreadableError(reason, "remove it, or write it as an escape in double quotes", line) from None
    except (UnicodeError, ValueError, RecursionError) as error:
        raise UnreadableError(f"this is no YAML: {quote(str(error), 120)[1:-1]}") from None
    return node


def build(node: Node, budget: Budget | None = None) -> tuple[Any, list[Repeated]]:
    """Return the data of a node tree and its repeated keys.

    Raises:
        UnreadableError: aliases, keys or tags that Kubernetes would not take either, or too many values.
    """
    builder = _Builder(budget or Budget())
    data = builder.build(node)
    return data, list(_repeated(node, ())) if builder.repeats else []


def _repeated(node: Node, path: Path) -> Iterator[Repeated]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated(item, (*path, index))
    elif isinstance(node, MappingNode):
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                continue
            key, mark = _key(key_node), key_node.start_mark
            if key in lines:
                yield Repeated((*path, key), mark.line + 1, mark.column + 1, lines[key])
            lines[key] = mark.line + 1
            yield from _repeated(value_node, (*path, key))


def parse_json(text: str, budget: Budget) -> Any:
    """Return the data of a JSON text that YAML 1.1 does not take, such as one with surrogate pairs.

    Raises:
        UnreadableError: it is no JSON.
    """
    budget.spend(text.count(",") + 1)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"this is no JSON: {quote(str(error), 120)[1:-1]}") from None


@dataclass(frozen=True)
class Document:
    """One object of a file: its data, and its place for messages. `prefix` leads to it inside a List."""

    file: str
    index: int
    data: Any
    text: str = field(repr=False)
    first_line: int = 1
    prefix: Path = ()
    node: Node | None = field(default=None, repr=False, compare=False)
    """The whole text's node tree, where it was composed already: it knows the places."""

    def position(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of the field; of the nearest mapping around one that is not there."""
        node, mark = self._root, None
        if node is not None:
            mark = node.start_mark
            for part in (*self.prefix, *path):
                found = _child(node, part)
                if found is None:
                    break
                mark, node = found[0].start_mark, found[1]
        return (self.first_line + mark.line, mark.column + 1) if mark else (self.first_line, 1)

    @cached_property
    def _root(self) -> Node | None:
        if self.node is not None:
            return self.node
        try:
            return compose(self.text)
        except UnreadableError:
            return None


def _value(node: Node) -> Any:
    if node.tag == _PLAIN:
        return scalars.plain(node.value)
    if node.tag == _QUOTED:
        return node.value
    try:
        return scalars.tagged(node.tag, node.value)
    except scalars.BadScalarError as error:
        mark = node.start_mark
        raise UnreadableError(str(error), "remove the tag", mark.line + 1, mark.column + 1) from None


def _is_merge(node: Node) -> bool:
    return node.__class__ is ScalarNode and node.value == _MERGE and node.tag == _PLAIN


def _key(node: Node) -> str:
    if node.__class__ is ScalarNode and node.tag is _QUOTED:
        return str(node.value)
    if node.__class__ is not ScalarNode:
        mark = node.start_mark
        raise UnreadableError("a key is a mapping or a list", "quote it", mark.line + 1, mark.column + 1)
    value = _value(node)
    if isinstance(value, str):
        return value
    if value is None:
        mark = node.start_mark
        raise UnreadableError("a key is null", "quote it", mark.line + 1, mark.column + 1)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """The node that names a part, and the part itself."""
    if isinstance(part, int):
        inside = node.value if isinstance(node, yaml.SequenceNode) else []
        return (inside[part], inside[part]) if part < len(inside) else None
    if not isinstance(node, MappingNode):
        return None
    for key_node, value_node in reversed(node.value):
        if isinstance(key_node, ScalarNode) and not _is_merge(key_node) and _key(key_node) == part:
            return key_node, value_node
    for key_node, value_node in node.value:
        if _is_merge(key_node):
            sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for source in sources:
                if found := _child(source, part):
                    return found
    return None
