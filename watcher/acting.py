"""Carries out what a pass decided, so that an answer that was lost makes nothing twice.

A claim's name follows from the Workspace's uid, so a create can be repeated: where the name is taken, the
claim under it is looked at, and with our label it is the one that was wanted. Writes to the Workspace carry
the version that the pass saw; a pass that saw an old one writes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from berth import labels
from kube import resources, times
from kube.errors import AlreadyExists, ApiError, Conflict, KubeError, NotFound, Unreachable
from kube.objects import items, labels_of, metadata
from watcher.cache import CLAIMS
from watcher.world import AddFinalizer, Create, Delete, PatchStatus, RemoveFinalizer, Tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from kube.client import Client, Object
    from kube.events import Recorder
    from kube.resources import Resource
    from watcher.cache import Cache
    from watcher.metrics import Metrics
    from watcher.world import Action

Unanswered = dict[str, tuple[str, float]]
"""By a claim's name: for which Workspace's uid, and when, a create got no answer."""


class NameTaken(KubeError):
    """Somebody else's claim has the name that ours would have."""


class Actor:
    """Writes for one term of leading; `check` raises when the lease is not ours for sure.

    A create that got no answer may still arrive for `late_s` seconds: our own, and at the beginning of a term
    those of whoever led before. So long no finalizer goes, or a claim could come after its Workspace is gone.
    """

    def __init__(
        self, client: Client, cache: Cache, recorder: Recorder, check: Callable[[], None],
        metrics: Metrics, now: Callable[[], datetime], late_s: float,
    ) -> None:  # fmt: skip
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._check = check
        self._metrics = metrics
        self._now = now
        self._late_s = late_s
        self._began = time.monotonic()
        self._unanswered: Unanswered = {}
        self.inherited: frozenset[str] = frozenset()
        """The uids of Workspaces that were there when the term began."""

    def wait_s(self, workspace: Object) -> float:
        """Return for how many seconds a claim of this Workspace may still arrive."""
        own = _uid(workspace)
        times = [at for uid, at in self._unanswered.values() if uid == own]
        if own in self.inherited:
            times.append(self._began)
        return max(0.0, max(times) + self._late_s - time.monotonic()) if times else 0.0

    async def act(self, workspace: Object, action: Action) -> Object:
        """Do one thing, and return the Workspace as it is then."""
        name = type(action).__name__
        try:
            if not isinstance(action, Tell):
                self._check()
            after = await self._do(workspace, action)
        except KubeError as error:
            self._metrics.acted(name, type(error).__name__)
            raise
        self._metrics.acted(name, "done")
        return after

    async def _do(self, workspace: Object, action: Action) -> Object:
        match action:
            case Tell(kind, reason, note):
                await self._recorder.record(workspace, kind, reason, note, "Reconcile")
            case AddFinalizer():
                return await self._finalizers(workspace, [*_finalizers(workspace), labels.FINALIZER])
            case RemoveFinalizer():
                kept = [one for one in _finalizers(workspace) if one != labels.FINALIZER]
                return await self._finalizers(workspace, kept)
            case Create(kind, body):
                await self._create(workspace, CLAIMS[kind], body)
            case Delete(kind, claim, uid):
                await self._delete(CLAIMS[kind], claim, uid)
            case PatchStatus(status):
                return await self._patch(workspace, {"status": status}, "status")
        return workspace

    async def _finalizers(self, workspace: Object, wanted: list[str]) -> Object:
        if wanted == _finalizers(workspace):
            return workspace
        return await self._patch(workspace, {"metadata": {"finalizers": wanted}}, None)

    async def _patch(self, workspace: Object, patch: dict[str, Any], subresource: str | None) -> Object:
        own = metadata(workspace)
        patch["metadata"] = {**patch.get("metadata", {}), "resourceVersion": own["resourceVersion"]}
        after = await self._client.patch(
            resources.WORKSPACES, own["name"], patch, namespace=own["namespace"], subresource=subresource
        )
        self._cache.wrote(resources.WORKSPACES, after)
        return after

    async def _create(self, workspace: Object, resource: Resource, body: Object) -> None:
        try:
            made = await self._client.create(resource, body)
        except (AlreadyExists, Unreachable) as error:
            made = await self._adopt(workspace, resource, body, error)
        except ApiError as error:
            if error.status < 500:
                raise
            made = await self._adopt(workspace, resource, body, error)
        self._unanswered.pop(str(body["metadata"]["name"]), None)
        self._cache.wrote(resource, made)

    async def _adopt(self, workspace: Object, resource: Resource, body: Object, error: KubeError) -> Object:
        """Find out whether the claim is there although its create failed; if it is ours, it is the one."""
        name = str(body["metadata"]["name"])
        if not isinstance(error, AlreadyExists):
            self._note_unanswered(name, _uid(workspace))
        try:
            found = await self._client.get(resource, name)
        except NotFound:
            raise error from None
        ours, theirs = _owner(body), _owner(found)
        if ours != theirs:
            raise NameTaken(
                f"{resource.kind} {name} is there already and belongs to {theirs or 'nobody we know'}"
            )
        return found

    def _note_unanswered(self, name: str, uid: str) -> None:
        now = time.monotonic()
        recent = {one: known for one, known in self._unanswered.items() if now - known[1] < self._late_s}
        self._unanswered = {**recent, name: (uid, now)}

    async def _delete(self, resource: Resource, name: str, uid: str) -> None:
        known = self._cache.get(resource, ("", name))
        if known is not None:
            self._cache.deleting(resource, known, times.seconds(self._now()))
        try:
            await self._client.delete(resource, name, uid=uid)
        except (NotFound, Conflict):
            # Gone, or another one has its name: both are what was wanted, and the watch will tell.
            return
        except KubeError:
            self._cache.undo(resource, ("", name))
            raise


def _owner(claim: Object) -> str:
    return labels_of(claim).get(labels.WORKSPACE_UID, "")


def _finalizers(workspace: Object) -> list[str]:
    return [str(one) for one in items(metadata(workspace).get("finalizers"))]


def _uid(workspace: Object) -> str:
    return str(metadata(workspace).get("uid"))
