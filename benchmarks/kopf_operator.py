# mypy: ignore-errors, kopf is in another Python
"""The watcher's decisions on kopf, the usual framework, for `benchmarks/large_cluster.py`.

    python benchmarks/kopf_operator.py --kubeconfig FILE --port PORT

It runs in a Python of its own, with kopf, pydantic, PyYAML and orjson. Indices hold Workspaces, claims and
nodes, events of all three lead to the Workspace, and what is decided is written with aiohttp, which kopf
brings. It writes no Events, and nothing here survives a lost answer, a stale copy or a second replica.
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
CLAIMS = "/apis/karpenter.sh/v1/nodeclaims"
FLEET = Fleet()
RAILS = rails.of(FLEET, catalog.load())
newer: dict[str, dict[str, Any]] = {}
"""Workspaces as the API server answered our own writes."""
owner_of_node: dict[str, str] = {}
locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
counts: Counter[str] = Counter()
passes: Counter[str] = Counter()
session: aiohttp.ClientSession


def plain(body: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dict(body)))


@kopf.index("kaito.sh", "v1beta1", "workspaces")
def workspaces(body: Any, **_: Any) -> dict[str, Any]:
    newer.pop(body["metadata"]["uid"], None)
    return {body["metadata"]["uid"]: plain(body)}


@kopf.index("karpenter.sh", "v1", "nodeclaims")
def claims(body: Any, **_: Any) -> dict[str, Any]:
    uid = body["metadata"].get("labels", {}).get(labels.WORKSPACE_UID, "")
    owner_of_node[body.get("status", {}).get("nodeName", "")] = uid
    return {uid: plain(body)}


@kopf.index("v1", "nodes")
def nodes(body: Any, **_: Any) -> dict[str, Any]:
    return {body["metadata"]["name"]: plain(body)}


@kopf.on.event("kaito.sh", "v1beta1", "workspaces")
async def on_workspace(body: Any, **given: Any) -> None:
    await one_pass(body["metadata"]["uid"], given)


@kopf.on.event("karpenter.sh", "v1", "nodeclaims")
async def on_claim(body: Any, **given: Any) -> None:
    await one_pass(body["metadata"].get("labels", {}).get(labels.WORKSPACE_UID, ""), given)


@kopf.on.event("v1", "nodes")
async def on_node(body: Any, **given: Any) -> None:
    await one_pass(owner_of_node.get(body["metadata"]["name"], ""), given)


async def one_pass(uid: str, given: Any) -> None:
    """Decide and write, one pass at a time for each Workspace."""
    async with locks[uid]:
        known = next(iter(given["workspaces"].get(uid, ())), None)
        if known is None:
            return
        passes[uid] += 1
        workspace = newer.get(uid, known)
        own = tuple(given["claims"].get(uid, ()))
        names = [one.get("status", {}).get("nodeName", "") for one in own]
        there = tuple(node for name in names for node in given["nodes"].get(name, ()))
        snapshot = Snapshot(workspace, claims=own, nodes=there, served=SERVED, live=True)
        for step in reconcile.decide(snapshot, FLEET, RAILS, datetime.now(UTC)).actions:
            counts[type(step).__name__] += 1
            match step:
                case Create(_, claim):
                    await send("POST", CLAIMS, claim)
                case Delete(_, name, _):
                    await send("DELETE", f"{CLAIMS}/{name}", {})
                case AddFinalizer() | RemoveFinalizer():
                    wanted = [labels.FINALIZER] if isinstance(step, AddFinalizer) else []
                    await patch(workspace, {"metadata": {"finalizers": wanted}}, "")
                case PatchStatus(status):
                    await patch(workspace, {"status": status}, "/status")


async def patch(workspace: dict[str, Any], body: Any, where: str) -> None:
    own = workspace["metadata"]
    path = f"/apis/kaito.sh/v1beta1/namespaces/{own['namespace']}/workspaces/{own['name']}{where}"
    newer[own["uid"]] = await send("PATCH", path, body)


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
