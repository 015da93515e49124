"""Looks on, and remembers every moment at which a node object was doubled, or deleted though it was needed.

It sees what the API server stored, in its order, and what the watcher's requests were; nothing of the watcher
itself. A Workspace whose plan never changes may never have more fitting claims than planned, and none of them
may be deleted by the watcher unless the provisioner refused it. One thing no client can keep from happening:
a create that was sent and given up arrives after the claim of its name came and went, and the claim rises
again. Such a one is counted apart, and must be gone in the end like all others.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from berth import labels
from kube import resources
from kube.reflector import Change, Reflector
from tests.watcher.simulator import CLAIMS, instance_type

if TYPE_CHECKING:
    from kube.client import Client

    Object = dict[str, Any]


class Audit:
    """The claims that live, by Workspace, and what was wrong."""

    def __init__(self, client: Client) -> None:
        self.wrong: list[str] = []
        self.created = self.deleted = 0
        """Claims that came, and that the watcher deleted."""
        self.live: dict[str, Object] = {}
        self._workspaces = Reflector(client, resources.WORKSPACES)
        self._claims = [Reflector(client, kind, on_event=self._on_claim) for kind in CLAIMS]
        self._seen: set[str] = set()
        self._names: dict[str, str] = {}
        self.risen: set[str] = set()
        """Claims that came a second time under one name, because a create arrived after its claim was
        deleted, or because its maker was gone before anybody had noted that it came and went."""
        self.for_moments = 0
        """How often there was one too many because of such a one."""

    async def run(self) -> None:
        """Look on until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in (self._workspaces, *self._claims):
                group.create_task(reflector.run())

    def _on_claim(self, change: Change) -> None:
        claim = change.object
        uid, name = claim["metadata"]["uid"], claim["metadata"]["name"]
        if change.type == "DELETED" or "deletionTimestamp" in claim["metadata"]:
            self.live.pop(uid, None)
            return
        self.live[uid] = claim
        if uid in self._seen:
            return
        self._seen.add(uid)
        self.created += 1
        if self._names.setdefault(name, uid) != uid:
            self.risen.add(uid)
        workspace = self._of(claim)
        if workspace is None or not constant(workspace):
            return
        planned = nodes_of(workspace)
        fitting = self._fitting(workspace)
        together = [one for one in fitting if one["metadata"]["uid"] not in self.risen]
        self.for_moments += len(fitting) > planned["count"] >= len(together)
        if len(together) > planned["count"]:
            names = sorted(one["metadata"]["name"] for one in together)
            self.wrong.append(f"{name} is one too many of {planned['count']}: {names}")

    def on_write(self, method: str, path: str, status: int, _: Any) -> None:
        """Hear of each request of the watcher that the API server answered."""
        kind, _, name = path.rpartition("/")
        if method != "DELETE" or status >= 300 or kind.rpartition("/")[2] not in ("nodeclaims", "machines"):
            return
        self.deleted += 1
        claim = next((one for one in self.live.values() if one["metadata"]["name"] == name), None)
        workspace = self._of(claim) if claim is not None else None
        if claim is None or workspace is None or "deletionTimestamp" in workspace["metadata"]:
            return
        together = self._fitting(workspace)
        needed = claim in together and len(together) <= nodes_of(workspace)["count"]
        if constant(workspace) and needed and not refused(claim):
            self.wrong.append(f"{name} was deleted, one of {len(together)} that were needed")

    def _of(self, claim: Object) -> Object | None:
        there = self._workspaces.store.values()
        return next((one for one in there if one["metadata"]["uid"] == owner(claim)), None)

    def _fitting(self, workspace: Object) -> list[Object]:
        """Return the living claims that the plan wants."""
        planned = nodes_of(workspace)
        types = {planned["instanceType"], *planned["fallbackInstanceTypes"]}
        uid = workspace["metadata"]["uid"]
        return [one for one in self.live.values() if owner(one) == uid and instance_type(one) in types]


def owner(claim: Object) -> str:
    """Return the uid of the Workspace that a claim was made for."""
    return str((claim["metadata"].get("labels") or {}).get(labels.WORKSPACE_UID, ""))


def nodes_of(workspace: Object) -> Object:
    """Return what the plan asks for."""
    return json.loads(workspace["metadata"]["annotations"][labels.PLAN])["nodes"]  # type: ignore[no-any-return]


def constant(workspace: Object) -> bool:
    """Say whether a Workspace's plan never changes: its generation tells."""
    return bool(workspace["metadata"]["generation"] == 1)


def refused(claim: Object) -> bool:
    """Say whether the provisioner told a reason against a claim."""
    told = (claim.get("status") or {}).get("conditions") or []
    return any(one["type"].endswith("Launched") and one["status"] == "False" for one in told)
