"""Existing nodes and several Workspaces that would have them: each node counts for one, over restarts too."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from berth.fleet import Fleet
from kube import resources
from kube.reflector import key_of
from tests.watcher import worlds
from watcher.cache import Cache
from watcher.reconcile import decide
from watcher.world import PatchStatus, Rails, Usage

NODES = tuple(f"n{number}" for number in range(5))
NAMES = ("a", "b", "c")


def workspace(name: str, count: int, age_s: float) -> worlds.Object:
    """A Workspace for existing nodes; all of them want nodes of one label."""
    made = worlds.workspace(count, provisioning="none", status={})
    made["metadata"] |= {"namespace": name, "uid": f"uid-{name}", "creationTimestamp": worlds.at(-age_s)}
    return made


class Sharing(RuleBasedStateMachine):
    """Nodes come, go and falter; passes run in any order; a status may be lost when a process ends."""

    @initialize(counts=st.lists(st.integers(1, 3), min_size=3, max_size=3), ages=st.permutations([1, 2, 3]))
    def begin(self, counts: list[int], ages: list[int]) -> None:
        made = [workspace(*one) for one in zip(NAMES, counts, ages, strict=True)]
        self.counts = dict(zip(NAMES, counts, strict=True))
        self.workspaces = {key_of(one): one for one in made}
        self.nodes: dict[str, worlds.Object] = {}
        self.after_s = 0.0
        self.restart()

    @rule()
    def restart(self) -> None:
        self.cache = Cache(None, lambda key: None, lambda resource, key: None)  # type: ignore[arg-type]
        self.passed: set[tuple[str, str]] = set()
        for key, one in self.workspaces.items():
            self.show(resources.WORKSPACES, key, one)
        for name, node in self.nodes.items():
            self.show(resources.NODES, ("", name), node)

    def show(self, resource: Any, key: tuple[str, str], thing: worlds.Object) -> None:
        self.cache._reflectors[resource]._put(key, copy.deepcopy(thing))

    @rule(name=st.sampled_from(NODES), ready=st.booleans())
    def node_is(self, name: str, ready: bool) -> None:
        self.nodes[name] = worlds.node(name, ready=ready, since=self.after_s)
        self.nodes[name]["metadata"]["resourceVersion"] = str(len(self.nodes))
        self.show(resources.NODES, ("", name), self.nodes[name])

    @rule(name=st.sampled_from(NODES))
    def node_goes(self, name: str) -> None:
        if self.nodes.pop(name, None) is not None:
            self.cache._reflectors[resources.NODES]._drop(("", name), None)

    @rule()
    def time_passes(self) -> None:
        self.after_s += 601

    @rule(name=st.sampled_from(NAMES), arrives=st.booleans())
    def one_pass(self, name: str, arrives: bool) -> None:
        key = (name, "assistant")
        known = self.cache.get(resources.WORKSPACES, key)
        assert known is not None
        snapshot = self.cache.snapshot(known, (), usage=Usage(), live=False)
        now = worlds.scene(after_s=self.after_s).now
        decision = decide(snapshot, Fleet(), Rails(), now)
        self.cache.count(key, decision.workers)
        self.passed.add(key)
        for action in decision.actions:
            if isinstance(action, PatchStatus) and arrives:
                own = self.workspaces[key]
                status = {**own.get("status", {}), **action.status}
                own["status"] = {field: value for field, value in status.items() if value is not None}
                self.show(resources.WORKSPACES, key, own)

    @invariant()
    def no_node_counts_twice(self) -> None:
        if hasattr(self, "cache"):
            counted = [name for key in self.passed for name in self.cache._workers.get(key, ())]
            assert len(counted) == len(set(counted)), self.cache._workers

    def teardown(self) -> None:
        """In the end as many nodes count as are wanted and there."""
        if not hasattr(self, "cache"):
            return
        self.time_passes()
        for _ in range(3):
            for name in NAMES:
                self.one_pass(name, arrives=True)
        self.no_node_counts_twice()
        ready = sum(node["status"]["conditions"][0]["status"] == "True" for node in self.nodes.values())
        counted = sum(len(self.workspaces[key]["status"]["workerNodes"]) for key in self.workspaces)
        assert counted == min(ready, sum(self.counts.values()))


TestSharing = Sharing.TestCase
TestSharing.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
