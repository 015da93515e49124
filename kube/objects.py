"""Parts of Kubernetes objects that came over the wire: whatever is of another type counts as absent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is, and an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return a list as it is, and an empty one for anything else."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    """Return the mappings of a list; what else is in it counts as absent."""
    return [one for one in items(value) if isinstance(one, dict)]


def metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object's metadata."""
    return mapping(document.get("metadata"))


def notes_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object's annotations."""
    return mapping(metadata(document).get("annotations"))


def labels_of(document: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the object's labels."""
    return cast("Mapping[str, str]", mapping(metadata(document).get("labels")))


def spec(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a Workspace asks for; its fields stand at the top, without a `spec` around them."""
    return {key: value for key, value in document.items() if key not in ("apiVersion", "metadata", "status")}
