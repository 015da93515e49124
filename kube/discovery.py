"""What the cluster serves, by name instead of by guess."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kube.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kube.client import Client
    from kube.resources import Resource


async def missing(client: Client, resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Return those that the server does not know."""
    return tuple([resource for resource in resources if not await client.served(resource)])


async def versions(client: Client, group: str) -> tuple[str, ...]:
    """Return the versions of a group that are served, the preferred one first; empty where there is none."""
    try:
        document = await client.raw("GET", f"/apis/{group}")
    except NotFound:
        return ()
    preferred = (document.get("preferredVersion") or {}).get("version")
    served = [str(entry["version"]) for entry in document.get("versions") or []]
    return tuple(sorted(served, key=lambda version: version != preferred))


async def server_version(client: Client) -> str:
    """Return what the server calls itself, as `v1.36.2`."""
    return str((await client.raw("GET", "/version"))["gitVersion"])
