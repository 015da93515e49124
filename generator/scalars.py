"""Which type a plain YAML scalar has: as `kubectl` reads it, since that is what the cluster gets.

Kubernetes reads YAML 1.1 through sigs.k8s.io/yaml and then JSON. So `yes` and `on` are booleans, `010` is
eight, `1_000` is a thousand and `1e3` a whole number; dates and `1:30` are texts.
"""

from __future__ import annotations

import math
import re
from typing import Any

_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}  # fmt: skip
_FIRST_LETTERS = frozenset("0123456789+-.~yYnNtTfFoO")
_INTEGER = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

LONGEST_NUMBER = 400
"""Characters; longer digits are texts, as no field takes such a number."""
_WHOLE_FLOATS = 1e21
"""Below this, JSON writes a whole float without a point, and it is read as an integer again."""


class BadScalarError(ValueError):
    """The scalar's tag and text do not fit, or nothing of Kubernetes reads the tag."""


def plain(text: str) -> Any:
    """Return the value of an unquoted scalar.

    >>> plain("010"), plain("1e3"), plain("yes"), plain("2024-01-01"), plain("1:30")
    (8, 1000, True, '2024-01-01', '1:30')
    """
    if not text:
        return None
    if text[0] not in _FIRST_LETTERS or len(text) > LONGEST_NUMBER:
        return text
    if text in _WORDS:
        return _WORDS[text]
    digits = text.replace("_", "")
    if _INTEGER.fullmatch(digits):
        return _integer(digits)
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        if math.isinf(number):
            return text
        return int(number) if number.is_integer() and abs(number) < _WHOLE_FLOATS else number
    return text


def tagged(tag: str, text: str) -> Any:
    """Return the value of a scalar with an explicit tag.

    Raises:
        BadScalarError: the tag is none of YAML's own, or the text is not of that type.
    """
    name = tag.removeprefix("tag:yaml.org,2002:")
    if name in ("str", "timestamp") or tag == "!":
        return text
    value = plain(text)
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (float, int),
        "bool": (bool,),
        "null": (type(None),),
    }
    if name not in kinds or name == tag:
        raise BadScalarError(f"the tag {_shown(tag)} is not allowed")
    if not isinstance(value, kinds[name]) or (isinstance(value, bool) and name != "bool"):
        raise BadScalarError(f"the text is no {name}, as its tag says")
    return value


def _integer(digits: str) -> int:
    sign, rest = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
    if len(rest) > 1 and rest[0] == "0" and rest[1] not in "xXbBoO":
        return sign * int(rest, 8)
    return sign * int(rest, 0)


def _shown(tag: str) -> str:
    short = tag.replace("tag:yaml.org,2002:", "!!")
    return "`" + "".join(letter for letter in short[:60] if letter.isprintable()) + "`"
