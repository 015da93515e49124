"""Kubernetes objects as YAML for reviewers: one way to write everything, whatever reads it back.

Written by hand since it is a third of a cold render with PyYAML's emitter. Only what no reader of YAML 1.1 or
1.2 can mistake stands without quotes.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

FORMAT = 1
"""Raised when the same objects are written in another way, so that all files are rendered again."""

HEADER = "# Rendered by berth: edit the Workspace and render again.\n"

_WORD = r"(?:--)?[A-Za-z/][\w./@%+=-]*(?::[\w./@%+=-]+)*"
_QUANTITY = r"[1-9][0-9]*(?:[KMGT]i|m)"
_PLAIN = re.compile(rf"(?:{_WORD}|{_QUANTITY})\Z", re.ASCII)
_RESERVED = frozenset(["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"])
"""What YAML 1.1 reads as something else than text, in any case."""
_NO_POINT = re.compile(r"(?<=^\d)e|(?<=^-\d)e")
"""`1e-07` is text to a reader of YAML 1.1, which wants `1.0e-07`."""
_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_IN_BLOCK = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def document(thing: Any) -> str:
    """Return one document's text, without a header and without a separator."""
    lines: list[str] = []
    _block(thing, "", lines)
    return "\n".join(lines) + "\n"


def file(thing: Any) -> str:
    """Return the text of a file with one document."""
    return HEADER + document(thing)


def stream(things: list[Any]) -> str:
    """Return one text of many documents, for `kubectl apply -f -`."""
    return HEADER + "".join(f"---\n{document(thing)}" for thing in things)


def _block(value: Any, indent: str, lines: list[str]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _entry(f"{indent}{_text(key)}:", item, indent, lines)
        return
    for item in value:
        if item and isinstance(item, (dict, list)):
            start = len(lines)
            _block(item, indent + "  ", lines)
            lines[start] = f"{indent}- {lines[start][len(indent) + 2 :]}"
        else:
            _entry(f"{indent}-", item, indent, lines)


def _entry(head: str, item: Any, indent: str, lines: list[str]) -> None:
    if isinstance(item, str):
        if "\n" in item and _fits_block(item):
            _literal(head, item, indent, lines)
        else:
            lines.append(f"{head} {_text(item)}")
    elif item and isinstance(item, (dict, list)):
        lines.append(head)
        _block(item, indent + "  ", lines)
    else:
        # Numbers, booleans, null, and what is empty: JSON writes them as YAML does, one case aside.
        text = json.dumps(item)
        lines.append(f"{head} {_NO_POINT.sub('.0e', text) if isinstance(item, float) else text}")


@lru_cache(maxsize=8192)
def _text(value: str) -> str:
    """Most keys and many values stand in every document, so each is judged once."""
    if _PLAIN.match(value) and value.lower() not in _RESERVED:
        return value
    if _ESCAPED.search(value):
        quoted = json.dumps(value, ensure_ascii=False)
        return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    if '"' in value or "\\" in value:
        return "'" + value.replace("'", "''") + "'"
    return f'"{value}"'


def _fits_block(text: str) -> bool:
    return not (
        text[0] in " \n\t"
        or text.endswith("\n\n")
        or text.strip() == ""
        or _IN_BLOCK.search(text)
        or " \n" in text
        or "\t\n" in text
        or text[-1] in " \t"
    )


def _literal(head: str, text: str, indent: str, lines: list[str]) -> None:
    keep = text.endswith("\n")
    lines.append(f"{head} {'|' if keep else '|-'}")
    for line in text.removesuffix("\n").split("\n"):
        lines.append(f"{indent}  {line}" if line else "")
