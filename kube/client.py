"""The client: typed by resource, bounded in time, honest about what failed.

Reads and writes that may be repeated (get, list, apply, patch, delete with a uid) are repeated with jitter
after 429, 5xx and silence. A create or a replace is not: its answer may be what was lost, so the caller looks
first.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from kube.errors import ApiError, TooManyRequests, Unreachable, from_status
from kube.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from kube.resources import Resource

TIMEOUT_S = 15.0
TRIES = 4
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
PAGE = 500
SILENCE_GRACE_S = 15.0

Object = dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """Everything of a resource at one moment, and the version to watch from."""

    items: list[Object]
    resource_version: str


@dataclass(frozen=True)
class WatchEvent:
    """ADDED, MODIFIED, DELETED or BOOKMARK, and the object as the server sent it."""

    type: str
    object: Object


class Client:
    """Speaks with one API server."""

    def __init__(self, transport: Transport, *, timeout_s: float = TIMEOUT_S, tries: int = TRIES) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._tries = tries
        self.writes = 0
        """How many writing requests were sent, repeats included."""

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        *,
        user_agent: str,
        timeout_s: float = TIMEOUT_S,
        tries: int = TRIES,
    ) -> Client:
        """Find the server and the credentials; the first request happens when it is needed."""
        return cls(await Transport.open(kubeconfig, user_agent), timeout_s=timeout_s, tries=tries)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Return an object as it is now."""
        return await self._send("GET", resource.path(namespace, name), repeat=True)

    async def list(
        self, resource: Resource, *, namespace: str | None = None,
        labels: str | None = None, keep: Callable[[Object], Object] | None = None,
    ) -> Listing:  # fmt: skip
        """Return every object, page by page, reduced by `keep`; the version is that of all pages."""
        params = {"limit": str(PAGE), **_selector(labels)}
        items: list[Object] = []
        while True:
            page = await self._send("GET", resource.path(namespace), params=params, repeat=True)
            for item in page.get("items") or []:
                # A list's items leave out what the list says once.
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item if keep is None else keep(item))
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return Listing(items, str(metadata.get("resourceVersion") or ""))
            params["continue"] = str(metadata["continue"])

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        """Create an object, once: after `Unreachable` it may exist."""
        namespace = (body.get("metadata") or {}).get("namespace")
        return await self._send("POST", resource.path(namespace), body=body)

    async def replace(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        """Write a whole object that was read before, once; `Conflict` where it changed since."""
        metadata = body["metadata"]
        return await self._send("PUT", resource.path(metadata.get("namespace"), metadata["name"]), body=body)

    async def apply(self, resource: Resource, body: Mapping[str, Any], *, manager: str) -> Object:
        """Server-side apply: state the fields that are the manager's, and take them from anybody else."""
        params = {"fieldManager": manager, "force": "true"}
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        metadata = whole["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"])
        return await self._send(
            "PATCH", path, params=params, body=whole, repeat=True, kind="application/apply-patch+yaml"
        )

    async def patch(
        self, resource: Resource, name: str, patch: Mapping[str, Any], *,
        namespace: str | None = None, subresource: str | None = None,
    ) -> Object:  # fmt: skip
        """Change an object by a merge patch, which may be repeated."""
        return await self._send(
            "PATCH", resource.path(namespace, name, subresource), body=patch,
            repeat=True, kind="application/merge-patch+json",
        )  # fmt: skip

    async def delete(
        self, resource: Resource, name: str, *, namespace: str | None = None, uid: str | None = None
    ) -> None:
        """Delete an object; with a uid only that one, never a successor of the same name."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            body["preconditions"] = {"uid": uid}
        await self._send("DELETE", resource.path(namespace, name), body=body, repeat=bool(uid))

    async def watch(
        self, resource: Resource, *, namespace: str | None = None, labels: str | None = None,
        resource_version: str = "", timeout_s: float = 300,
    ) -> AsyncGenerator[WatchEvent]:  # fmt: skip
        """Yield events from a version on until the server ends the stream; an ERROR event is raised."""
        params = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(timeout_s))), **_selector(labels),
        }  # fmt: skip
        path = resource.path(namespace)
        async with self._transport.stream(
            path, params=params, silence_s=timeout_s + SILENCE_GRACE_S
        ) as lines:
            async for line in lines:
                yield _event(line)

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def _send(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        repeat: bool = False, kind: str = "application/json",
    ) -> Object:  # fmt: skip
        content = None if body is None else orjson.dumps(body)
        for attempt in range(1, self._tries + 1):
            try:
                if method != "GET":
                    self.writes += 1
                answer = await self._transport.exchange(
                    method, path, timeout_s=self._timeout_s, params=params, content=content, content_type=kind
                )
                return _document(answer, f"{method} {path}")
            except (ApiError, Unreachable) as error:
                # 429 says that nothing was done, so even a create may be sent again.
                again = _passes(error) if repeat else isinstance(error, TooManyRequests)
                if not again or attempt == self._tries:
                    raise
                await asyncio.sleep(pause(attempt, error))
        raise AssertionError("the last try always ends above")  # pragma: no cover


def pause(attempt: int, error: Exception | None = None) -> float:
    """Return how many seconds to wait: what the server asked for, else twice as long each time."""
    asked = getattr(error, "retry_after", None)
    usual = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 20))
    wait = min(float(asked), LONGEST_PAUSE_S) if asked else usual * random.uniform(0.5, 1.0)
    return wait * random.uniform(1.0, 1.1)


def _passes(error: ApiError | Unreachable) -> bool:
    """Say whether the same request may be answered better in a moment."""
    return isinstance(error, Unreachable) or error.status == 429 or error.status >= 500


def _event(line: bytes) -> WatchEvent:
    try:
        document = orjson.loads(line)
        event = WatchEvent(str(document["type"]), document["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"the watch sent something that is no event: {line[:80]!r}") from error
    if event.type == "ERROR":
        code = event.object.get("code")
        raise from_status(code if isinstance(code, int) else 500, event.object)
    return event


def _document(answer: bytes, what: str) -> Object:
    try:
        document = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise Unreachable(f"{what}: the answer is no JSON") from error
    if not isinstance(document, dict):
        raise Unreachable(f"{what}: the answer is no object")
    return document


def _selector(labels: str | None) -> dict[str, str]:
    return {"labelSelector": labels} if labels else {}
