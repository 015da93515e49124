"""Events for `kubectl describe`: said once, counted when they repeat, and never worth failing for."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from kube import times
from kube.errors import AlreadyExists, KubeError, NotFound
from kube.resources import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kube.client import Client, Object

log = logging.getLogger(__name__)
REMEMBERED = 4096
QUIET_S = 300.0
"""The same sentence about the same object is sent again after this long, as a series."""
NOTE_BYTES = 1024


@dataclass
class _Said:
    name: str
    at: float
    count: int


class Recorder:
    """Writes Events of events.k8s.io about objects."""

    def __init__(
        self, client: Client, *, controller: str, instance: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._controller = controller
        self._instance = instance
        self._clock = clock
        self._said: OrderedDict[tuple[str, ...], _Said] = OrderedDict()

    async def record(
        self, regarding: Object, kind: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> bool:
        """Write the Event unless it was said just now; say whether a request was made."""
        metadata = regarding["metadata"]
        key = (str(metadata.get("uid") or metadata["name"]), kind, reason, note)
        said = self._said.get(key)
        if said is not None and self._clock() - said.at < QUIET_S:
            said.count += 1
            return False
        try:
            if said is None or not await self._repeat(said, metadata):
                said = await self._first(regarding, kind, reason, note, action)
        except KubeError as error:
            log.debug("event %s about %s was not written: %s", reason, metadata["name"], error)
            said = _Said("", self._clock(), 1)
        said.at = self._clock()
        self._said[key] = said
        self._said.move_to_end(key)
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return True

    async def _first(self, regarding: Object, kind: str, reason: str, note: str, action: str) -> _Said:
        metadata = regarding["metadata"]
        now = times.micros(datetime.now(UTC))
        digest = hashlib.sha256(f"{metadata.get('uid')}{reason}{note}{now}".encode()).hexdigest()[:16]
        name = f"{metadata['name'][:230]}.{digest}"
        reference = {
            "apiVersion": regarding["apiVersion"], "kind": regarding["kind"], "name": metadata["name"],
            "uid": metadata.get("uid"), "namespace": metadata.get("namespace"),
        }  # fmt: skip
        body: dict[str, Any] = {
            "apiVersion": EVENTS.api_version, "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": metadata.get("namespace") or "default"},
            "eventTime": now, "type": kind, "reason": reason, "action": action, "note": shorten(note),
            "regarding": {key: value for key, value in reference.items() if value},
            "reportingController": self._controller, "reportingInstance": self._instance,
        }  # fmt: skip
        try:
            await self._client.create(EVENTS, body)
        except AlreadyExists:
            log.debug("event %s exists", name)
        return _Said(name, self._clock(), 1)

    async def _repeat(self, said: _Said, metadata: Object) -> bool:
        if not said.name:
            return False
        said.count += 1
        series = {
            "series": {"count": max(said.count, 2), "lastObservedTime": times.micros(datetime.now(UTC))}
        }
        try:
            namespace = metadata.get("namespace") or "default"
            await self._client.patch(EVENTS, said.name, series, namespace=namespace)
        except NotFound:
            return False
        return True


def shorten(note: str) -> str:
    """Cut a note to what the API takes, at a whole character."""
    encoded = note.encode()
    return note if len(encoded) <= NOTE_BYTES else encoded[: NOTE_BYTES - 4].decode(errors="ignore") + "…"
