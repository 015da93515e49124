"""What this replica knows of the cluster: copies kept by watches, and on top of them what it wrote itself.

A watch tells late. So an object that we wrote stands here as the API server answered it until the watch is
at least as far, and a node that a pass counts is taken from that moment on: no pass sees less than the passes
before it did, and no two passes take the same node.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from berth import labels
from kube import resources
from kube.objects import labels_of, metadata
from kube.reflector import Change, Key, Reflector, Store, key_of, trim
from watcher import indices, trimming
from watcher.world import Snapshot
from watcher.written import Written, as_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kube.client import Client, Object
    from kube.resources import Resource
    from watcher.world import ClaimKind

    Index = Callable[[Object], Iterable[str]]

CLAIMS: dict[ClaimKind, Resource] = {"NodeClaim": resources.NODE_CLAIMS, "Machine": resources.MACHINES}
WORKLOADS = (resources.DEPLOYMENTS, resources.STATEFUL_SETS)
ROUTES = (resources.INGRESSES, resources.HTTP_ROUTES)
WAYS = {
    "nodeclaim": resources.NODE_CLAIMS,
    "machine": resources.MACHINES,
    "nodepool": resources.NODE_POOLS,
}


class Cache:
    """Objects by the Workspace that they matter to.

    `wanted` hears of each Workspace that deserves a look, `counted` of each claim that came, changed or went.
    """

    def __init__(
        self, client: Client, wanted: Callable[[Key], None], counted: Callable[[Resource, Key], None]
    ) -> None:
        self._wanted = wanted
        self._counted = counted
        self._written = Written()
        self._workers: dict[Key, tuple[str, ...]] = {}
        self._holders: dict[str, set[Key]] = {}
        self._reflectors: dict[Resource, Reflector] = {}
        self._keep: dict[Resource, Callable[[Object], Object]] = {}
        self._watch(client, resources.WORKSPACES, self._of_workspace, trim, {
            "uid": indices.uid, "pool": indices.pools, "label": indices.one_planned_label,
        })  # fmt: skip
        for resource in CLAIMS.values():
            found_by: dict[str, Index] = {"owner": indices.owners, "node": indices.nodes_of}
            self._watch(client, resource, self._of_claim, trimming.claim, found_by)
        self._watch(client, resources.NODE_POOLS, self._of_pool, trimming.other, {})
        self._watch(client, resources.NODES, self._of_node, trimming.node, {
            "label": indices.node_labels, "id": indices.provider_id,
        })  # fmt: skip
        parts = {
            resources.PODS: trimming.pod,
            **dict.fromkeys(WORKLOADS, trimming.workload),
            **dict.fromkeys((resources.SERVICES, *ROUTES), trimming.other),
        }
        for resource, keep in parts.items():
            own: dict[str, Index] = {"workspace": indices.workspace_of}
            self._watch(client, resource, self._of_part, keep, own, labels.WORKSPACE)

    def _watch(
        self, client: Client, resource: Resource, told: Callable[[Object], Iterable[Key]],
        keep: Callable[[Object], Object], found_by: dict[str, Index], selector: str | None = None,
    ) -> None:  # fmt: skip
        self._keep[resource] = keep
        self._reflectors[resource] = Reflector(
            client, resource, labels=selector, indices=found_by, transform=keep,
            on_event=lambda change: self._on_event(resource, change, told),
        )  # fmt: skip

    async def run(self) -> None:
        """Keep the copies current until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors.values():
                group.create_task(reflector.run())

    async def synced(self) -> None:
        """Wait until everything was read once."""
        for resource, reflector in self._reflectors.items():
            if resource not in ROUTES:
                await reflector.synced()

    def waiting(self) -> list[str]:
        """Return what was not read yet, and what stood against it; routes are no reason to wait."""
        return [
            f"{one} ({', '.join(reflector.restarts) or 'no answer yet'})"
            for one, reflector in self._reflectors.items()
            if not reflector.is_synced and one not in ROUTES
        ]

    @property
    def reflectors(self) -> Iterable[Reflector]:
        """For the metrics."""
        return self._reflectors.values()

    def known(self) -> list[Key]:
        """Every Workspace."""
        return [key for key, _ in self._store(resources.WORKSPACES).items()]

    def uids(self) -> list[str]:
        """Return every Workspace's uid."""
        return [str(metadata(one).get("uid")) for one in self._store(resources.WORKSPACES).values()]

    def get(self, resource: Resource, key: Key) -> Object | None:
        """Return the object as it is now, our own writes included."""
        own = self._written.get(resource, key)
        return own if own is not None else self._store(resource).get(key)

    def workspace_of_uid(self, uid: str) -> Object | None:
        """Return the Workspace of that uid."""
        return next(iter(self._store(resources.WORKSPACES).indexed("uid", uid)), None)

    def served(self) -> dict[str, str | None]:
        """Return which ways of making nodes the cluster has, by the names that fleet files use."""
        return {way: one.api_version if self._reflectors[one].served else None for way, one in WAYS.items()}

    def claims(self) -> Iterator[tuple[Resource, Object]]:
        """Yield every claim that there is, of whomever."""
        for resource in CLAIMS.values():
            found = {**dict(self._store(resource).items()), **self._written.of(resource)}
            yield from ((resource, thing) for thing in found.values())

    def claims_of(self, workspace: Object) -> tuple[Object, ...]:
        """Return the claims that carry the Workspace's uid, its name, or its pool's name."""
        wanted = set(indices.asked_owners(workspace))
        found: list[Object] = []
        for resource in CLAIMS.values():
            there: dict[Key, Object] = {}
            for owner in wanted:
                there.update((key_of(one), one) for one in self._store(resource).indexed("owner", owner))
            for key, thing in self._written.of(resource).items():
                if not wanted.isdisjoint(indices.owners(thing)):
                    there[key] = thing
            found += [there[key] for key in sorted(there)]
        return tuple(found)

    def snapshot(self, workspace: Object, claims: tuple[Object, ...], **more: Any) -> Snapshot:
        """Return all that one pass may look at."""
        key = key_of(workspace)
        part = "/".join(key)
        nodes = self._nodes(workspace, claims)
        pools = (self._store(resources.NODE_POOLS).get(("", name)) for name in indices.pools(workspace))
        return Snapshot(
            workspace=workspace,
            claims=claims,
            nodes=nodes,
            pods=self._parts((resources.PODS,), part),
            workloads=self._parts(WORKLOADS, part),
            services=self._parts((resources.SERVICES,), part),
            ingresses=self._parts(ROUTES, part),
            node_pools=tuple(pool for pool in pools if pool is not None),
            served=self.served(),
            taken=self._taken(key, nodes),
            **more,
        )

    def wrote(self, resource: Resource, thing: Object) -> None:
        """Note what the API server answered to a write of ours, unless a watch was faster."""
        known = self._store(resource).get(key_of(thing))
        if known is not None and as_new(known, thing):
            self._written.drop(resource, key_of(thing))
        else:
            self._written.put(resource, self._keep[resource](thing))
        if resource in WAYS.values():
            self._counted(resource, key_of(thing))

    def gone(self, resource: Resource, key: Key) -> None:
        """Note that the API server does not have a claim any more that we wrote."""
        known = self._written.get(resource, key)
        self.undo(resource, key)
        if known is not None:
            self._tell(self._of_claim(known))

    def deleting(self, resource: Resource, thing: Object, at: str) -> None:
        """Note that we deleted an object, which may live on until its finalizers are gone."""
        marked = {**thing, "metadata": {**thing["metadata"], "deletionTimestamp": at}}
        self._written.put(resource, marked)

    def undo(self, resource: Resource, key: Key) -> None:
        """Note that a write of ours did not come about."""
        self._written.drop(resource, key)
        self._counted(resource, key)

    def unseen(self, older_than_s: float) -> list[tuple[Resource, Key]]:
        """Return the claims of ours that no watch has shown for so long."""
        return [(one, key) for one in CLAIMS.values() for key in self._written.unseen(one, older_than_s)]

    def count(self, key: Key, workers: tuple[str, ...]) -> None:
        """From now on this Workspace counts these nodes and no other may; others hear of nodes let go."""
        before = self._workers.get(key, ())
        self._workers[key] = workers
        for node in set(before) - set(workers):
            self._holders[node].discard(key)
            if not self._holders[node]:
                del self._holders[node]
            if (free := self._store(resources.NODES).get(("", node))) is not None:
                self._tell(one for one in self._of_node(free) if one != key)
        for node in workers:
            self._holders.setdefault(node, set()).add(key)

    def forget(self, key: Key) -> None:
        """The Workspace is gone, and counts no node any more."""
        self.count(key, ())
        self._workers.pop(key, None)
        self._written.drop(resources.WORKSPACES, key)

    def _nodes(self, workspace: Object, claims: tuple[Object, ...]) -> tuple[Object, ...]:
        store = self._store(resources.NODES)
        told = [name for claim in claims for name in indices.nodes_of(claim)]
        named = {*told, *indices.counted(workspace), *self._workers.get(key_of(workspace), ())}
        found = [store.get(("", name)) for name in named]
        found += [node for name in told for node in store.indexed("id", name)]
        found += self._matching(indices.planned_labels(workspace))
        by_name = {node["metadata"]["name"]: node for node in found if node is not None}
        return tuple(by_name[name] for name in sorted(by_name))

    def _matching(self, wanted: dict[str, str]) -> list[Object]:
        """Return the nodes with all of these labels: the rarest is looked up, the others are compared."""
        store = self._store(resources.NODES)
        buckets = [store.indexed("label", f"{key}={value}") for key, value in wanted.items()]
        fewest = min(buckets, key=len, default=[])
        return [node for node in fewest if wanted.items() <= labels_of(node).items()]

    def _taken(self, key: Key, nodes: tuple[Object, ...]) -> dict[str, str]:
        """Say which other Workspace counts a node; of several, and we may be one, the oldest has it."""
        taken = {}
        for node in nodes:
            name = str(node["metadata"]["name"])
            holders = self._holders.get(name, set())
            known = [one for holder in holders if (one := self.get(resources.WORKSPACES, holder)) is not None]
            if known:
                first = min(known, key=lambda one: (str(metadata(one).get("creationTimestamp")), key_of(one)))
                if key_of(first) != key:
                    taken[name] = str(metadata(first).get("uid"))
        return taken

    def _parts(self, kinds: Iterable[Resource], part: str) -> tuple[Object, ...]:
        return tuple(one for kind in kinds for one in self._store(kind).indexed("workspace", part))

    def _store(self, resource: Resource) -> Store:
        return self._reflectors[resource].store

    def _on_event(self, resource: Resource, change: Change, told: Callable[[Object], Iterable[Key]]) -> None:
        echo = self._written.seen(resource, change)
        if resource in WAYS.values():
            self._counted(resource, change.key)
        if resource is resources.WORKSPACES and change.key not in self._workers:
            self.count(change.key, indices.counted(change.object))
        if echo or (change.old is not None and change.type == "MODIFIED"
                    and not trimming.differs(change.old, change.object)):  # fmt: skip
            return
        self._tell(told(change.object))
        if change.old is not None and change.old is not change.object:
            self._tell(told(change.old))

    def _tell(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._wanted(key)

    def _of_workspace(self, workspace: Object) -> Iterable[Key]:
        return [key_of(workspace)]

    def _of_claim(self, claim: Object) -> Iterable[Key]:
        for owner in indices.owners(claim):
            what, _, name = owner.partition(":")
            if what == "name":
                namespace, _, workspace = name.partition("/")
                yield namespace, workspace
            else:
                yield from map(key_of, self._store(resources.WORKSPACES).indexed(what, name))

    def _of_pool(self, pool: Object) -> Iterable[Key]:
        found = self._store(resources.WORKSPACES).indexed("pool", str(pool["metadata"]["name"]))
        return [key_of(workspace) for workspace in found]

    def _of_node(self, node: Object) -> Iterable[Key]:
        name = str(node["metadata"]["name"])
        yield from self._holders.get(name, set())
        for resource in CLAIMS.values():
            for value in (name, *indices.provider_id(node)):
                for claim in self._store(resource).indexed("node", value):
                    yield from self._of_claim(claim)
        own = labels_of(node)
        for pair in indices.node_labels(node):
            for workspace in self._store(resources.WORKSPACES).indexed("label", pair):
                if indices.planned_labels(workspace).items() <= own.items():
                    yield key_of(workspace)

    def _of_part(self, part: Object) -> Iterable[Key]:
        for owner in indices.workspace_of(part):
            namespace, _, name = owner.partition("/")
            yield namespace, name
