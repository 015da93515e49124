"""Typed reading of GGUF metadata: a value of the wrong type or size is an error with the key's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 2**40
"""No count, size or rank in a header may be larger: nothing real is, and products stay small."""


@dataclass(frozen=True, slots=True)
class ArraySummary:
    """An array of a header that is too long to keep, such as a vocabulary: what it holds and how many."""

    type: str
    length: int

    def __len__(self) -> int:
        return self.length


class Reader:
    """Reads the keys of one architecture, `{architecture}.{key}`."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise InvalidGguf("the metadata has no general.architecture, so it describes no model")
        self.architecture = architecture

    def value(self, key: str) -> Any:
        """The raw value of a key of the architecture, None where it is absent."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def has(self, key: str) -> bool:
        return self.value(key) is not None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number from 0 up; required where there is no default."""
        value = self.value(key)
        if value is None:
            if default is None:
                raise InvalidGguf(f"{self.architecture}.{key} is missing from the metadata")
            return default
        return self._whole(key, value)

    def whole(self, key: str) -> int:
        """A whole number outside the architecture's own keys, 0 where it is absent."""
        value = self.metadata.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            raise InvalidGguf(f"{key} is {value!r}, which is no sensible whole number")
        return value

    def number(self, key: str, default: float = 0.0) -> float:
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise InvalidGguf(f"{self.architecture}.{key} is {value!r}, which is no number")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidGguf(f"{self.architecture}.{key} is {value!r}, which is neither true nor false")
        return value

    def text(self, key: str, default: str = "") -> str:
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InvalidGguf(f"{self.architecture}.{key} is {value!r}, which is no text")
        return value

    def per_layer(self, key: str, layers: int, default: int | None = 0) -> tuple[int, ...]:
        """One whole number a layer, given as a list or as one number for all."""
        value = self.value(key)
        if value is None:
            if default is None:
                raise InvalidGguf(f"{self.architecture}.{key} is missing from the metadata")
            return (default,) * layers
        if isinstance(value, list | tuple):
            if len(value) != layers:
                raise InvalidGguf(f"{self.architecture}.{key} has {len(value)} entries for {layers} layers")
            return tuple(self._whole(key, entry) for entry in value)
        return (self._whole(key, value),) * layers

    def array(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers or truth values of any length, None where it is absent or one number."""
        value = self.value(key)
        if not isinstance(value, list | tuple):
            return None
        return tuple(int(entry) if isinstance(entry, bool) else self._whole(key, entry) for entry in value)

    def length(self, key: str) -> int:
        """How many entries a list outside the architecture's own keys has, 0 where it is absent."""
        value = self.metadata.get(key)
        return len(value) if isinstance(value, list | tuple | ArraySummary) else 0

    def _whole(self, key: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            raise InvalidGguf(f"{self.architecture}.{key} is {value!r}, which is no sensible whole number")
        return value
