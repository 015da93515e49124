"""What is made and removed: each case is one look at the cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.watcher import worlds
from tests.watcher.fake import Fake
from tests.watcher.worlds import NOW, SPARE, TYPE, UID
from watcher import moves, records
from watcher.provisioners import WAYS
from watcher.reasons import Reason
from watcher.records import Entry
from watcher.scene import Blocked
from watcher.world import Amount, Limits, Price, Rails, Usage

if TYPE_CHECKING:
    from watcher.moves import Moves

OPEN = Rails(prices={TYPE: Price(1, 0.5), SPARE: Price(1, 0.9)})


def plan(
    count: int,
    *claims: worlds.Object,
    entries: tuple[Entry, ...] = (),
    rails: Rails = OPEN,
    types: tuple[str, ...] = (TYPE,),
    annotations: dict[str, str] | None = None,
    **fields: Any,
) -> Moves:
    """The moves for so many wanted nodes and these claims."""
    workspace = worlds.workspace(
        count,
        status={"nodes": [entry.to_json() for entry in entries], "workerNodes": fields.pop("counted", [])},
        instance_type=types[0],
        fallback_instance_types=types[1:],
        annotations=annotations,
        **fields.pop("nodes_of_plan", {}),
    )
    return moves.plan(worlds.scene(workspace, claims=claims, **fields), rails)


def created(found: Moves) -> list[tuple[int, int, str]]:
    """Index, attempt and instance type of what is made."""
    return [(entry.index, entry.attempt, entry.instance_type) for entry in found.creates]


def deleted(found: Moves) -> list[str]:
    """Names of what is removed."""
    return [claim.name for claim, _ in found.deletes]


def up(index: int, attempt: int = 0, **fields: Any) -> worlds.Object:
    """A claim whose node is ready."""
    return worlds.claim(index, attempt, stage=3, node_name=f"n{index}", **fields)


def pods(*indices: int) -> tuple[worlds.Object, ...]:
    """A pod on the node of each of these claims."""
    return tuple(worlds.pod(f"p{place}", f"n{index}", ready=True) for place, index in enumerate(indices))


def deployment(replicas: int, *, ready: int | None = None) -> worlds.Object:
    """A Deployment that has all its pods, or so many ready ones."""
    counted = replicas if ready is None else ready
    return {
        "kind": "Deployment",
        "metadata": {"name": "assistant", "generation": 1},
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas,
            "readyReplicas": counted,
        },
    }  # fmt: skip


def test_every_missing_node_is_asked_for() -> None:
    found = plan(3)
    assert created(found) == [(0, 0, TYPE), (1, 0, TYPE), (2, 0, TYPE)]
    assert [entry.name for entry in found.entries] == [records.name(UID, index, 0) for index in range(3)]


def test_what_is_there_is_not_asked_for_again() -> None:
    found = plan(2, up(0), worlds.claim(1))
    assert (found.creates, found.deletes) == ((), ())
    assert [entry.phase for entry in found.entries] == ["Ready", "Launching"]


def test_indices_need_not_be_the_first() -> None:
    assert created(plan(3, up(1), up(4))) == [(0, 0, TYPE)]


def test_a_terminating_claim_is_replaced_under_another_name() -> None:
    found = plan(1, up(0, 3, terminating=True))
    assert created(found) == [(0, 4, TYPE)]
    assert found.deletes == ()


def test_a_claim_that_karpenter_deleted_comes_back_after_a_wait() -> None:
    entry = Entry(0, 0, "ws0x0", TYPE, phase="Launching", since=NOW)
    found = plan(1, entries=(entry,), after_s=310)
    assert found.creates == ()
    assert found.again_s == 30
    (waiting,) = found.entries
    assert (waiting.attempt, waiting.reason, waiting.name) == (1, Reason.LAUNCH_TIMEOUT, "")
    assert created(plan(1, entries=(waiting,), after_s=339)) == []
    assert created(plan(1, entries=(waiting,), after_s=340)) == [(0, 1, TYPE)]


def test_a_wait_of_one_node_holds_no_other_back() -> None:
    entry = Entry(1, 2, instance_type=TYPE, retry_at=NOW + timedelta(seconds=60), failures=2)
    assert created(plan(3, up(0), entries=(entry,))) == [(2, 0, TYPE)]


def test_without_capacity_the_claim_is_given_up_and_the_next_type_follows_at_once() -> None:
    failing = worlds.claim(0, failure=("InsufficientCapacity", "none left"))
    found = plan(1, failing, types=(TYPE, SPARE))
    assert deleted(found) == ["ws0x0"]
    assert created(found) == [(0, 1, SPARE)]
    (entry,) = found.entries
    assert (entry.reason, entry.message, entry.failures) == (Reason.INSUFFICIENT_CAPACITY, "none left", 1)


def test_when_all_types_were_tried_there_is_a_wait() -> None:
    failing = worlds.claim(0, 1, instance_type=SPARE, failure=("InsufficientCapacity", "none left"))
    found = plan(1, failing, types=(TYPE, SPARE), entries=(Entry(0, 1, "ws0x1", SPARE, failures=1),))
    assert (deleted(found), found.creates, found.again_s) == (["ws0x1"], (), 30)
    assert found.entries[0].instance_type == TYPE


def test_a_failure_that_the_cloud_may_get_over_is_left_to_the_provisioner() -> None:
    found = plan(1, worlds.claim(0, failure=("LaunchFailed", "no right")), types=(TYPE, SPARE))
    assert (found.creates, found.deletes) == ((), ())
    assert found.entries[0].reason == Reason.LAUNCH_FAILED


def test_idle_ones_go_before_busy_ones_and_young_ones_before_old_ones() -> None:
    claims = (up(0, made_s=10), up(1, made_s=20), up(2, made_s=30), up(3, made_s=0))
    assert deleted(plan(3, *claims, pods=pods(2))) == ["ws1x0"]
    assert deleted(plan(2, *claims, pods=pods(2))) == ["ws0x0", "ws1x0"]
    assert set(deleted(plan(3, *claims, worlds.claim(4), pods=pods(0, 1, 2)))) == {"ws3x0", "ws4x0"}
    assert deleted(plan(4, *claims, worlds.claim(4))) == ["ws4x0"]


def test_the_busy_too_many_wait_until_the_pods_are_fewer_and_go_one_by_one() -> None:
    claims = tuple(up(index, made_s=index) for index in range(4))
    busy: dict[str, Any] = {"pods": pods(0, 1, 2, 3)}
    assert deleted(plan(2, *claims, **busy, workloads=(deployment(2),))) == []
    assert deleted(plan(2, *claims, **busy, workloads=(deployment(4),))) == ["ws3x0"]
    going = worlds.claim(9, terminating=True)
    assert deleted(plan(2, *claims, going, **busy, workloads=(deployment(4),))) == []


def test_of_two_claims_of_one_node_the_better_one_stays() -> None:
    assert deleted(plan(1, worlds.claim(0, 0), up(0, 1))) == ["ws0x0"]
    assert deleted(plan(2, worlds.claim(0, 0), up(0, 1))) == ["ws0x0"]
    assert created(plan(2, worlds.claim(0, 0), up(0, 1))) == [(1, 0, TYPE)]


OLD: dict[str, Any] = {"instance_type": "Standard_Old"}


def test_another_instance_type_is_made_first_and_the_idle_old_one_goes() -> None:
    found = plan(1, up(0, **OLD))
    assert created(found) == [(1, 0, TYPE)]
    assert deleted(found) == ["ws0x0"]


@pytest.mark.parametrize(
    ("new", "ready", "gone"),
    [
        pytest.param(worlds.claim(1), 1, [], id="the new node is not ready"),
        pytest.param(up(1), 0, [], id="the replicas do not answer"),
        pytest.param(up(1), 1, ["ws0x0"], id="all is ready"),
    ],
)
def test_an_old_node_with_pods_stays_until_all_is_ready(
    new: worlds.Object, ready: int, gone: list[str]
) -> None:
    workloads = (deployment(1, ready=ready),)
    found = plan(1, up(0, **OLD), new, pods=pods(0), workloads=workloads)
    assert deleted(found) == gone
    assert found.creates == ()


def test_where_there_is_no_room_for_both_the_old_one_goes_first() -> None:
    full = Rails(cluster=Limits(nodes=1), prices=OPEN.prices)
    usage = Usage(Amount(1, 1), Amount(1, 1))
    found = plan(1, up(0, **OLD), pods=pods(0), rails=full, usage=usage)
    assert (created(found), deleted(found), found.blocked) == ([], ["ws0x0"], None)
    assert found.again_s == moves.BLOCKED_AGAIN_S


def test_a_full_cluster_says_so() -> None:
    full = Rails(cluster=Limits(nodes=2), prices=OPEN.prices)
    found = plan(3, rails=full, usage=Usage(Amount(1, 1), Amount()))
    assert created(found) == [(0, 0, TYPE)]
    assert found.blocked is not None
    assert found.blocked.reason == Reason.OVER_LIMIT


def test_claims_of_another_kind_are_replaced() -> None:
    found = plan(1, up(0, kind="Machine"))
    assert created(found) == [(1, 0, TYPE)]
    assert [(claim.kind, claim.name) for claim, _ in found.deletes] == [("Machine", "ws0x0")]


def test_claims_of_others_are_left_alone() -> None:
    found = plan(1, up(0), up(5, uid=None), up(6, uid="another"))
    assert (found.creates, found.deletes) == ((), ())


def test_nodes_that_match_fill_a_gap_and_no_more() -> None:
    nodes = (worlds.node("own"), worlds.node("n0"))
    assert created(plan(2, nodes=nodes[:1])) == [(0, 0, TYPE)]
    found = plan(1, up(0), nodes=nodes)
    assert ([node.name for node in found.given], found.deletes) == ([], ())


def test_a_node_that_matches_takes_no_claims_place() -> None:
    found = plan(1, worlds.claim(0), nodes=(worlds.node("own"),))
    assert (found.given, found.creates, found.deletes) == ((), (), ())


def test_without_provisioning_all_claims_of_ours_go() -> None:
    found = plan(1, up(0), up(1), nodes_of_plan={"provisioning": "none"}, pods=pods(1))
    assert (found.creates, deleted(found)) == ((), ["ws0x0"])


def test_pods_keep_a_claim_until_a_given_node_is_ready() -> None:
    given: dict[str, Any] = {
        "nodes_of_plan": {"provisioning": "none"},
        "pods": pods(0),
        "workloads": (deployment(1),),
    }
    assert deleted(plan(1, up(0), **given)) == []
    assert deleted(plan(1, up(0), nodes=(worlds.node("own"),), **given)) == ["ws0x0"]


def test_a_kind_that_is_not_served_is_not_asked_for() -> None:
    found = plan(1, served={})
    assert found.creates == ()
    assert found.blocked is not None
    assert found.blocked.reason == Reason.PROVISIONER_MISSING


def test_another_way_to_get_nodes_needs_nothing_but_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAYS, "nodeclaim", Fake())
    assert created(plan(2, up(0, instance_type="whatever"))) == [(1, 0, TYPE)]
    closed = Blocked(Reason.PROVISIONER_MISSING, "closed")
    monkeypatch.setitem(WAYS, "nodeclaim", Fake(closed))
    found = plan(1)
    assert (found.creates, found.blocked, found.again_s) == ((), closed, moves.BLOCKED_AGAIN_S)


def test_a_refused_removal_is_told_and_nothing_else_is_tried() -> None:
    found = plan(1, up(0, kind="Machine"), up(1), refused="forbidden")
    assert (found.creates, found.deletes) == ((), ())
    assert found.blocked is not None
    assert found.blocked.reason == Reason.CLAIM_REFUSED
    assert plan(1, up(0), refused="forbidden").blocked is None


def test_a_refused_claim_is_tried_again_later() -> None:
    found = plan(1, refused="forbidden")
    assert (found.creates, found.again_s) == ((), moves.REFUSED_AGAIN_S)
    assert found.blocked is not None
    assert "forbidden" in found.blocked.message


@pytest.mark.parametrize("way", ["paused", "dry run"])
def test_nothing_is_done_and_what_would_be_is_said(way: str) -> None:
    paused = {"berth.dev/paused": "true"} if way == "paused" else None
    rails = OPEN if way == "paused" else Rails(prices=OPEN.prices, dry_run=True)
    found = plan(2, up(0, **OLD), rails=rails, annotations=paused)
    assert (found.creates, found.deletes) == ((), ())
    assert found.blocked is not None
    assert found.blocked.reason == (Reason.PAUSED if way == "paused" else Reason.DRY_RUN)
    assert f"2 × {TYPE} would be asked for and ws0x0 would be removed" in found.blocked.message
    assert [entry.name for entry in found.entries] == ["", ""]


def test_a_pause_with_nothing_to_do_is_not_spoken_of() -> None:
    assert plan(1, up(0), annotations={"berth.dev/paused": "true"}).blocked is None


def test_a_paused_claim_is_not_given_up_and_counts_no_failures() -> None:
    failing = worlds.claim(0, failure=("InsufficientCapacity", "none left"))
    found = plan(1, failing, annotations={"berth.dev/paused": "true"})
    assert found.deletes == ()
    assert (found.entries[0].attempt, found.entries[0].failures) == (0, 0)


def test_a_silent_provisioner_is_looked_at_again() -> None:
    silent = worlds.claim(0)
    del silent["status"]
    assert plan(1, silent, after_s=20).again_s == 100


def test_a_status_that_was_lost_starts_from_what_is_there() -> None:
    found = plan(2, worlds.claim(0, 5, stage=1), worlds.claim(1, 2, terminating=True))
    assert created(found) == [(1, 3, TYPE)]
    assert [(entry.index, entry.attempt) for entry in found.entries] == [(0, 5), (1, 3)]


def test_a_status_that_is_behind_gives_no_second_claim() -> None:
    behind = Entry(0, 0, "ws0x0", TYPE, phase="Launching", since=NOW)
    found = plan(1, worlds.claim(0, 1), entries=(behind,))
    assert (found.creates, found.deletes) == ((), ())
    assert found.entries[0].attempt == 1
