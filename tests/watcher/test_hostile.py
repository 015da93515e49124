"""Objects that are not what they should be: a pass reads around them, changes none and never fails."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth.fleet import Fleet
from tests.watcher import worlds
from tests.watcher.test_status import container, healthy, workload
from tests.watcher.worlds import NOW, TYPE
from watcher.reconcile import decide
from watcher.world import Price, Rails, Snapshot

RAILS = Rails(prices={TYPE: Price(1, 0.5)})
JUNK = st.sampled_from(
    [None, True, -1, 2**70, 1.5, "", "x", "2026-13-45T00:00:00Z", [], [None], [[1]], {}, {"a": 1}]
)


@cache
def full(way: str) -> Snapshot:
    """A snapshot with a bit of everything."""
    status = {
        "nodes": [{"index": 0, "attempt": 1, "name": "ws0x0", "phase": "Ready", "retryAt": worlds.at(60)}],
        "workerNodes": ["n0"],
        "conditions": [worlds.condition("Ready")],
    }
    workspace = worlds.workspace(2, status=status, provisioning=way)
    workspace["metadata"]["finalizers"] = ["berth.dev/nodes"]
    pods = (
        worlds.pod("a", "n0", containerStatuses=[container(lastState={"terminated": {"exitCode": 1}})]),
        worlds.pod("b", initContainerStatuses=[container("weights", state={"running": {}})]),
    )
    route = {"kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": {"hostnames": ["h"], "parentRefs": [{}]}}
    rule = {"host": "h", "http": {"paths": [{"path": "/"}]}}
    ingress = {
        "kind": "Ingress",
        "metadata": {"name": "i"},
        "spec": {"rules": [rule], "tls": [{"hosts": ["h"]}]},
    }
    claims = (
        worlds.claim(stage=3, node_name="n0"),
        worlds.claim(1, failure=("LaunchFailed", "quota"), kind="Machine"),
        worlds.claim(2, terminating=True),
    )
    pool = {"metadata": {"name": worlds.scene(workspace).reading.node_pool}, "spec": {}, "status": {}}
    fields = healthy(workspace, claims=claims, pods=pods, workloads=(workload(workspace, ready=0),))
    return Snapshot(
        workspace, **fields, ingresses=(route, ingress), node_pools=(pool,), served=worlds.SERVED, live=True
    )


def places(thing: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in JSON data."""
    inner = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    return [place for key, value in inner for place in ((*path, key), *places(value, (*path, key)))]


KINDS = ("workspace", "claims", "nodes", "pods", "workloads", "services", "ingresses", "node_pools")


@pytest.mark.parametrize("way", ["nodeclaim", "machine", "nodepool", "none"])
@pytest.mark.parametrize("deleting", [False, True], ids=["living", "deleting"])
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_pass_never_fails_and_changes_nothing(way: str, deleting: bool, data: st.DataObject) -> None:
    found = {kind: copy.deepcopy(getattr(full(way), kind)) for kind in KINDS}
    if deleting:
        found["workspace"]["metadata"]["deletionTimestamp"] = worlds.at(0)
    for _ in range(data.draw(st.integers(0, 3))):
        kind = data.draw(st.sampled_from(KINDS))
        thing = found[kind] if kind == "workspace" else data.draw(st.sampled_from(found[kind]))
        own = [place for place in places(thing) if place not in (("metadata",), ("metadata", "name"))]
        place = data.draw(st.sampled_from(own))
        parent = thing
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = copy.deepcopy(data.draw(JUNK))
    snapshot = replace(full(way), **found)
    before = copy.deepcopy(found)
    first = decide(snapshot, Fleet(), RAILS, NOW)
    assert found == before
    assert decide(snapshot, Fleet(), RAILS, NOW) == first
