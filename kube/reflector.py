"""List once, watch for ever: a local copy of a resource that is right again soon after any fault.

The semantics are client-go's. What vanished between two lists is told as deleted. Bookmarks move the version
on; 410 means list again; the end of a stream means watch on; other faults wait, longer each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kube.client import Object, pause
from kube.errors import ApiError, Gone, KubeError, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from kube.client import Client
    from kube.resources import Resource

Key = tuple[str, str]
"""Namespace, empty for what has none, and name."""
WATCH_S = (240.0, 360.0)
HEALTHY_S = 60.0
ABSENT_S = 30.0
"""How often we look whether a missing resource is there now."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class Change:
    """What happened to an object; `old` is what we knew before."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: Key
    object: Object
    old: Object | None


class Store:
    """Objects by key, and by whatever an index makes of them."""

    def __init__(self, indices: dict[str, Callable[[Object], Iterable[str]]] | None = None) -> None:
        self._objects: dict[Key, Object] = {}
        self._functions = indices or {}
        self._indices: dict[str, dict[str, dict[Key, None]]] = {name: {} for name in self._functions}

    def get(self, key: Key) -> Object | None:
        """Return the object of that key."""
        return self._objects.get(key)

    def items(self) -> Iterator[tuple[Key, Object]]:
        """Every object; take a list of it before anything is awaited."""
        return iter(self._objects.items())

    def values(self) -> Iterator[Object]:
        """Every object; the same holds."""
        return iter(self._objects.values())

    def indexed(self, index: str, value: str) -> list[Object]:
        """Return the objects for which the index gave that value, in the order they came."""
        return [self._objects[key] for key in self._indices[index].get(value, ())]

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, key: Key, thing: Object) -> None:
        """Hold an object, in place of the one before it."""
        self.discard(key)
        self._objects[key] = thing
        for index, function in self._functions.items():
            for value in function(thing):
                self._indices[index].setdefault(value, {})[key] = None

    def discard(self, key: Key) -> Object | None:
        """Hold an object no more; return it if it was there."""
        old = self._objects.pop(key, None)
        if old is None:
            return None
        for index, function in self._functions.items():
            for value in function(old):
                keys = self._indices[index].get(value, {})
                keys.pop(key, None)
                if not keys:
                    self._indices[index].pop(value, None)
        return old


def trim(thing: Object) -> Object:
    """Leave out what nobody here reads and what takes half of the memory."""
    metadata = thing["metadata"]
    metadata.pop("managedFields", None)
    if LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED}
    return thing


class Reflector:
    """Keeps `store` like the server's objects and tells every change, in order, to `on_event`."""

    def __init__(
        self, client: Client, resource: Resource, *, namespace: str | None = None, labels: str | None = None,
        on_event: Callable[[Change], None] | None = None,
        indices: dict[str, Callable[[Object], Iterable[str]]] | None = None,
        transform: Callable[[Object], Object] = trim, watch_s: tuple[float, float] = WATCH_S,
    ) -> None:  # fmt: skip
        self._client = client
        self.resource = resource
        self._namespace = namespace
        self._labels = labels
        self._on_event = on_event
        self._transform = transform
        self._watch_s = watch_s
        self._ready = asyncio.Event()
        self.store = Store(indices)
        self.served: bool | None = None
        """Whether the server knows the resource; None until it was asked."""
        self.restarts: Counter[str] = Counter()
        """Why watching began anew: ended, gone, absent, denied, error, unreachable."""
        self.heard_at = time.monotonic()
        """When the server last told anything, on the monotonic clock."""

    async def synced(self) -> None:
        """Wait until the store was filled once; a resource that is not served counts as empty."""
        await self._ready.wait()

    @property
    def is_synced(self) -> bool:
        """Whether `synced` would return at once."""
        return self._ready.is_set()

    async def run(self) -> None:
        """List and watch until cancelled; no fault of the server ends it."""
        version: str | None = None
        attempt = 0
        while True:
            began = time.monotonic()
            try:
                if version is None:
                    version = await self._list()
                async for reached in self._watch(version):
                    version = reached
                    attempt = 0 if time.monotonic() - began > HEALTHY_S else attempt
                self.restarts["ended"] += 1
                # A healthy stream lasts minutes; one that ends at once is a fault like any other.
                attempt = 0 if time.monotonic() - began > 1.0 else attempt + 1
                if attempt:
                    await asyncio.sleep(pause(attempt))
                continue
            except KubeError as error:
                attempt += 1
                self.restarts[_cause(error)] += 1
                version = self._after(error, version)
                await asyncio.sleep(ABSENT_S if isinstance(error, NotFound) else self._wait(attempt, error))

    def _after(self, error: KubeError, version: str | None) -> str | None:
        """Return from where to go on: the same version where only the line was lost."""
        if isinstance(error, NotFound):
            self.served = False
            self._fill([])
            self._ready.set()
            return None
        return None if isinstance(error, ApiError) and error.status != 429 else version

    def _wait(self, attempt: int, error: KubeError) -> float:
        return 0.05 * random.random() if isinstance(error, Gone) and attempt == 1 else pause(attempt, error)

    async def _list(self) -> str:
        listing = await self._client.list(
            self.resource, namespace=self._namespace, labels=self._labels, keep=self._transform
        )
        self.served = True
        self.heard_at = time.monotonic()
        self._fill(listing.items)
        self._ready.set()
        return listing.resource_version

    def _fill(self, items: list[Object]) -> None:
        seen = set()
        for thing in items:
            key = key_of(thing)
            seen.add(key)
            old = self.store.get(key)
            if old is None or _version(old) != _version(thing) or _uid(old) != _uid(thing):
                self._put(key, thing)
        for key in [key for key, _ in self.store.items() if key not in seen]:
            self._drop(key, None)

    async def _watch(self, version: str) -> AsyncGenerator[str]:
        timeout_s = random.uniform(*self._watch_s)
        events = self._client.watch(
            self.resource, namespace=self._namespace, labels=self._labels,
            resource_version=version, timeout_s=timeout_s,
        )  # fmt: skip
        async with contextlib.aclosing(events):
            async for event in events:
                self.heard_at = time.monotonic()
                if event.type == "DELETED":
                    self._drop(key_of(event.object), self._transform(event.object))
                elif event.type in ("ADDED", "MODIFIED"):
                    self._put(key_of(event.object), self._transform(event.object))
                yield _version(event.object) or version

    def _put(self, key: Key, thing: Object) -> None:
        old = self.store.get(key)
        if old is not None and _uid(old) != _uid(thing):
            # Deleted and made again while we looked away: both are told.
            self._drop(key, None)
            old = None
        self.store.put(key, thing)
        self._tell(Change("MODIFIED" if old is not None else "ADDED", key, thing, old))

    def _drop(self, key: Key, last: Object | None) -> None:
        old = self.store.discard(key)
        if old is not None:
            self._tell(Change("DELETED", key, last or old, old))

    def _tell(self, change: Change) -> None:
        if self._on_event is not None:
            self._on_event(change)


def key_of(thing: Object) -> Key:
    """Return the key under which an object is held."""
    metadata = thing["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _version(thing: Object) -> str:
    return str(thing["metadata"].get("resourceVersion") or "")


def _uid(thing: Object) -> str:
    return str(thing["metadata"].get("uid") or "")


def _cause(error: KubeError) -> str:
    if isinstance(error, Gone):
        return "gone"
    if isinstance(error, NotFound):
        return "absent"
    if isinstance(error, ApiError):
        return "denied" if error.status in (401, 403) else "error"
    return "unreachable"
