# mypy: ignore-errors, kopf is in another Python
"""The watcher's decisions on kopf, for `benchmarks/watcher.py` to compare with: the usual way in Python.

    python benchmarks/kopf_operator.py --kubeconfig FILE --port PORT

It runs in a Python of its own, with kopf, pydantic, PyYAML and orjson. Events of Workspaces, claims and nodes
lead to the Workspace, and what is decided is written with aiohttp, which kopf brings. Nothing here survives a
lost answer, a stale copy or a second replica.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import ssl
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import aiohttp
import kopf
from aiohttp import web

from berth import catalog, labels
from berth.fleet import Fleet
from watcher import rails, reconcile
from watcher.world import AddFinalizer, Create, Delete, PatchStatus, RemoveFinalizer, Snapshot

SERVED = {"nodeclaim": "karpenter.sh/v1", "machine": "karpenter.sh/v1alpha5", "nodepool": "karpenter.sh/v1"}
CLAIMS, NODES = "/apis/karpenter.sh/v1/nodeclaims", "/api/v1/nodes"
FLEET = Fleet()
RAILS = rails.of(FLEET, catalog.load())
workspaces: dict[str, dict[str, Any]] = {}
claims: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
owner_of_node: dict[str, str] = {}
nodes: dict[str, dict[str, Any]] = {}
locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
counts: Counter[str] = Counter()
passes: Counter[str] = Counter()
session: aiohttp.ClientSession


@kopf.on.event("kaito.sh", "v1beta1", "workspaces")
async def on_workspace(event: Any, body: Any, **_: Any) -> None:
    uid = body["metadata"]["uid"]
    if event["type"] == "DELETED":
        workspaces.pop(uid, None)
        return
    workspaces[uid] = json.loads(json.dumps(dict(body)))
    await one_pass(uid)


@kopf.on.event("karpenter.sh", "v1", "nodeclaims")
async def on_claim(event: Any, body: Any, **_: Any) -> None:
    uid, name = body["metadata"].get("labels", {}).get(labels.WORKSPACE_UID), body["metadata"]["name"]
    if uid is None:
        return
    claims[uid][name] = json.loads(json.dumps(dict(body)))
    owner_of_node[claims[uid][name].get("status", {}).get("nodeName", "")] = uid
    if event["type"] == "DELETED":
        claims[uid].pop(name)
    await one_pass(uid)


@kopf.on.event("v1", "nodes")
async def on_node(body: Any, **_: Any) -> None:
    name = body["metadata"]["name"]
    nodes[name] = json.loads(json.dumps(dict(body)))
    if name in owner_of_node:
        await one_pass(owner_of_node[name])


async def one_pass(uid: str) -> None:
    """Decide and write, one pass at a time for each Workspace."""
    async with locks[uid]:
        workspace = workspaces.get(uid)
        if workspace is None:
            return
        passes[uid] += 1
        own = tuple(claims[uid].values())
        names = [one.get("status", {}).get("nodeName", "") for one in own]
        there = tuple(nodes[name] for name in names if name in nodes)
        snapshot = Snapshot(workspace, claims=own, nodes=there, served=SERVED, live=True)
        for step in reconcile.decide(snapshot, FLEET, RAILS, datetime.now(UTC)).actions:
            counts[type(step).__name__] += 1
            match step:
                case Create(_, claim):
                    claims[uid][claim["metadata"]["name"]] = await send("POST", CLAIMS, claim)
                case Delete(_, name, _):
                    await send("DELETE", f"{CLAIMS}/{name}", {})
                case AddFinalizer() | RemoveFinalizer():
                    wanted = [labels.FINALIZER] if isinstance(step, AddFinalizer) else []
                    await patch(uid, {"metadata": {"finalizers": wanted}}, "")
                case PatchStatus(status):
                    await patch(uid, {"status": status}, "/status")


async def patch(uid: str, body: Any, where: str) -> None:
    own = workspaces[uid]["metadata"]
    path = f"/apis/kaito.sh/v1beta1/namespaces/{own['namespace']}/workspaces/{own['name']}{where}"
    workspaces[uid] = await send("PATCH", path, body)


async def send(method: str, path: str, body: Any) -> Any:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    async with session.request(method, path, json=body, headers={"Content-Type": kind}) as answer:
        return await answer.json()


async def metrics(_: web.Request) -> web.Response:
    lines = [f"berth_watcher_passes_total {len(passes)}"]
    for name, count in counts.items():
        lines.append(f'berth_watcher_actions_total{{action="{name}",result="done"}} {count}')
    return web.Response(text="\n".join(lines) + "\n")


async def run(kubeconfig: Path, port: int) -> None:
    global session
    config = json.loads(kubeconfig.read_text())
    authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    session = aiohttp.ClientSession(
        config["clusters"][0]["cluster"]["server"],
        headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=authority)),
    )
    pages = web.Application()
    pages.router.add_get("/metrics", metrics)
    runner = web.AppRunner(pages)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await kopf.operator(clusterwide=True, standalone=True)


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False


@kopf.on.login()
def login(**given: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_kubeconfig(**given)


if __name__ == "__main__":
    front = argparse.ArgumentParser()
    front.add_argument("--kubeconfig", type=Path, required=True)
    front.add_argument("--port", type=int, required=True)
    given = front.parse_args()
    os.environ["KUBECONFIG"] = str(given.kubeconfig)
    asyncio.run(run(given.kubeconfig, given.port))
