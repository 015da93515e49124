"""What a kubelet makes of a container's arguments, after `third_party/forked/golang/expansion/expand.go`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def arguments(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Return what the program gets."""
    return [_expand(word, variables) for word in words]


def _expand(text: str, variables: Mapping[str, str]) -> str:
    found, place = [], 0
    while place < len(text):
        if text[place] != "$" or place + 1 == len(text):
            found.append(text[place])
            place += 1
        elif text[place + 1] == "$":
            found.append("$")
            place += 2
        elif text[place + 1] == "(" and ")" in text[place:]:
            end = text.index(")", place)
            name = text[place + 2 : end]
            found.append(variables.get(name, f"$({name})"))
            place = end + 1
        else:
            found.append(text[place : place + 2])
            place += 2
    return "".join(found)
