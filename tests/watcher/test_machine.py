"""The pure part against a cluster where everything goes wrong in any order.

At every write: no claim beside as many fitting ones as are planned, none of a living claim's index, none
without the finalizer, none deleted that the watcher saw to be needed, none left when the Workspace is gone.
When the trouble ends, everything comes to rest with what the plan wants. `BERTH_TEST_STEPS` makes it longer.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kube.objects import metadata
from tests.watcher import worlds
from tests.watcher.cluster import Cluster
from watcher import observed, status
from watcher.reasons import Condition

STEPS = int(os.environ.get("BERTH_TEST_STEPS", "1500"))
PER_RUN = 50
TYPES = ((worlds.TYPE,), (worlds.TYPE, worlds.SPARE), ("Standard_NC6s_v3",))
WAYS = ("nodeclaim", "nodeclaim", "machine")
places = st.integers(min_value=0, max_value=7)


class Watcher(RuleBasedStateMachine):
    """Rules are what users, provisioners, networks and processes do."""

    cluster: Cluster

    @initialize(
        count=st.integers(1, 3), types=st.sampled_from(TYPES), limit=st.sampled_from([None, None, 3, 5])
    )
    def begin(self, count: int, types: tuple[str, ...], limit: int | None) -> None:
        self.cluster = Cluster(count, types, limit)

    def claim(self, place: int) -> str:
        names = sorted(self.cluster.truth.claims)
        return names[place % len(names)] if names else ""

    @rule(stop_at=st.none() | st.integers(0, 4), lands=st.booleans())
    def one_pass(self, stop_at: int | None, lands: bool) -> None:
        self.cluster.one_pass(stop_at, lands=lands)

    @rule()
    def pass_again(self) -> None:
        self.cluster.one_pass()

    @rule(rounds=st.integers(2, 6), behind=st.booleans())
    def a_quiet_while(self, rounds: int, behind: bool) -> None:
        """Without it no run would ever get far enough for the interesting trouble."""
        for _ in range(rounds):
            if not behind:
                self.cluster.fresh()
            self.cluster.one_pass()
            for name in sorted(self.cluster.truth.claims):
                self.cluster.step_claim(name)
            for what in ("claims", "nodes", "pods", "deployment"):
                self.cluster.deliver(what)
            self.cluster.wait(20)

    @rule(stop_at=st.integers(0, 4))
    def dies_in_a_pass(self, stop_at: int) -> None:
        self.cluster.one_pass(stop_at)
        self.cluster.fresh()

    @rule(what=st.sampled_from(["workspace", "claims", "nodes", "pods", "deployment"]))
    def watch_delivers(self, what: str) -> None:
        self.cluster.deliver(what)

    @rule(place=places)
    def claim_gets_on(self, place: int) -> None:
        self.cluster.step_claim(self.claim(place))

    @rule()
    def all_claims_get_on(self) -> None:
        for name in sorted(self.cluster.truth.claims):
            self.cluster.step_claim(name)

    @rule(place=places, why=st.sampled_from(["quota", "no right", "SkuNotAvailable"]))
    def claim_fails(self, place: int, why: str) -> None:
        self.cluster.fail_claim(self.claim(place), "LaunchFailed", why)

    @rule(place=places)
    def claim_is_taken(self, place: int) -> None:
        self.cluster.take_claim(self.claim(place))

    @rule(place=places)
    def claim_ends(self, place: int) -> None:
        self.cluster.end_claim(self.claim(place))

    @rule(place=places)
    def node_is_lost(self, place: int) -> None:
        self.cluster.lose_node(self.claim(place))

    @rule(there=st.sampled_from([True, True, False]))
    def capacity(self, there: bool) -> None:
        self.cluster.capacity = there

    @rule(count=st.integers(1, 4), types=st.sampled_from(TYPES), way=st.sampled_from(WAYS))
    def git_changes(self, count: int, types: tuple[str, ...], way: str) -> None:
        self.cluster.render(count, types, way)

    @rule(count=st.integers(1, 4))
    def somebody_edits(self, count: int) -> None:
        self.cluster.edit_spec_alone(count)

    @rule(on=st.sampled_from([False, False, True]))
    def pause(self, on: bool) -> None:
        self.cluster.pause(on)

    @rule(really=st.sampled_from([False] * 9 + [True]))
    def workspace_is_deleted(self, really: bool) -> None:
        if really:
            self.cluster.delete_workspace()

    @rule(seconds=st.sampled_from([1.0, 30.0, 300.0, 1800.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.wait(seconds)

    @invariant()
    def remembered_attempts_are_never_behind_living_claims(self) -> None:
        if not hasattr(self, "cluster"):
            return
        alive = [
            observed.claim(one, worlds.UID) for one in self.cluster.truth.claims.values()
            if not metadata(one).get("deletionTimestamp")
        ]  # fmt: skip
        assert len({one.index for one in alive}) == len(alive)

    def teardown(self) -> None:
        """The trouble ends: everything delivers, and all comes to rest."""
        if not hasattr(self, "cluster"):
            return
        cluster = self.cluster
        cluster.capacity = True
        cluster.rails = cluster.rails.__class__(prices=cluster.rails.prices)
        cluster.pause(on=False)
        cluster.render(cluster.wanted, cluster.types, cluster.way)
        quiet = 0
        for _ in range(120):
            cluster.fresh()
            wrote = cluster.one_pass()
            before = _known(cluster)
            for name in sorted(cluster.truth.claims):
                cluster.step_claim(name)
            quiet = quiet + 1 if not wrote and before == _known(cluster) else 0
            if quiet == 3:
                break
            cluster.wait(600)
        assert quiet == 3, "it never comes to rest"
        workspace = cluster.truth.workspace
        if workspace is None or metadata(workspace).get("deletionTimestamp"):
            assert not cluster.truth.claims
            assert workspace is None
            return
        found = [observed.claim(one, worlds.UID) for one in cluster.truth.claims.values()]
        assert len(found) == cluster.wanted
        assert {one.instance_type for one in found} <= set(cluster.types)
        assert {one.kind.lower() for one in found} == {cluster.way}
        assert {one.stage for one in found} == {observed.Stage.READY}
        assert status.reason_of(workspace["status"], Condition.READY)[0] == "Ready"


def _known(cluster: Cluster) -> dict[str, Any]:
    return {name: (one.get("status"), metadata(one)) for name, one in cluster.truth.claims.items()}


TestWatcher = Watcher.TestCase
TestWatcher.settings = settings(
    max_examples=max(10, STEPS // PER_RUN),
    stateful_step_count=PER_RUN,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
