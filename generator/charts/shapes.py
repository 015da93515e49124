"""Parts of a user's own pod template, taken only if they have the type that Kubernetes knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth.errors import BerthError

if TYPE_CHECKING:
    from collections.abc import Mapping


class TemplateError(BerthError):
    """A part of the template that berth has to add to is of a wrong type."""


def wrong(path: str, value: Any, wanted: str) -> TemplateError:
    """Return the error for a value at a path below `inference.template`."""
    shown = value if isinstance(value, str) else type(value).__name__
    return TemplateError(f"inference.template.{path} is {shown!r}, and must be {wanted}")


def mapping(data: Mapping[str, Any], key: str, path: str = "") -> Mapping[str, Any]:
    """Return a mapping below a key, an empty one where it is absent."""
    value = data.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(_below(path, key), value, "a mapping")
    return value


def items(data: Mapping[str, Any], key: str, path: str = "") -> list[Any]:
    """Return a list below a key, an empty one where it is absent."""
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(_below(path, key), value, "a list")
    return value


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
