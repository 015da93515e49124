"""Our own writes, as the API server answered them, until the watches have caught up with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kube.reflector import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.client import Object
    from kube.reflector import Change, Key
    from kube.resources import Resource


@dataclass(slots=True)
class _Entry:
    object: Object
    version: int
    at: float


class Written:
    """Objects by resource and key, each newer than what a watch has told of it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Resource, dict[Key, _Entry]] = {}

    def put(self, resource: Resource, thing: Object) -> None:
        """Note what the API server answered to a write."""
        entry = _Entry(thing, _number(thing), self._clock())
        self._entries.setdefault(resource, {})[key_of(thing)] = entry

    def drop(self, resource: Resource, key: Key) -> None:
        """The API server says that the object is gone, or that it is another one."""
        self._entries.get(resource, {}).pop(key, None)

    def get(self, resource: Resource, key: Key) -> Object | None:
        """Return what was written and not seen yet."""
        entry = self._entries.get(resource, {}).get(key)
        return entry.object if entry else None

    def of(self, resource: Resource) -> dict[Key, Object]:
        """Return all of a resource that was written and not seen yet."""
        return {key: entry.object for key, entry in self._entries.get(resource, {}).items()}

    def unseen(self, resource: Resource, older_than_s: float) -> list[Key]:
        """Return what no watch has shown for so long: it may be gone without a trace."""
        now = self._clock()
        entries = self._entries.get(resource, {})
        return [key for key, entry in entries.items() if now - entry.at > older_than_s]

    def seen(self, resource: Resource, change: Change) -> bool:
        """Take note of what a watch tells; say whether that is nothing but our own write coming back.

        Versions of one API server may be compared as numbers (KEP-5504); of those that are none the watch's
        word counts.
        """
        entry = self._entries.get(resource, {}).get(change.key)
        if entry is None:
            return False
        theirs = _number(change.object)
        same = change.object["metadata"].get("uid") == entry.object["metadata"].get("uid")
        if change.type == "DELETED":
            if same:
                self.drop(resource, change.key)
            return False
        if theirs < entry.version and same:
            return True  # older than what we know
        self.drop(resource, change.key)
        return same and theirs == entry.version


def as_new(known: Object, thing: Object) -> bool:
    """Say whether what is known is the same object, in the same or a later version."""
    same = known["metadata"].get("uid") == thing["metadata"].get("uid")
    return same and _number(known) >= _number(thing)


def _number(thing: Object) -> int:
    version = str(thing["metadata"].get("resourceVersion") or "")
    return int(version) if version.isdecimal() else 0
