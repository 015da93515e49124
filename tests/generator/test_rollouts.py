"""Whether a change of plans interrupts those who ask the model, and that the pull request says so."""

from __future__ import annotations

from typing import Any

import pytest

from berth import catalog, sizing, workspaces
from berth.fleet import Fleet
from generator.charts.workloads import strategy
from generator.rollouts import interruption


def planned(count: int, instance_type: str = "Standard_NC24ads_A100_v4", **llamacpp: Any) -> Any:
    document = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "harbour"},
        "resource": {
            "count": count,
            "instanceType": instance_type,
            "labelSelector": {"matchLabels": {"apps": "harbour"}},
        },
        "inference": {"preset": {"name": "falcon-7b"}, "llamacpp": llamacpp},
    }
    return sizing.plan(workspaces.parse(document), catalog.load())


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        pytest.param({"count": 1}, {"count": 1}, None, id="nothing changes"),
        pytest.param(
            {"count": 1, "contextSize": 1024},
            {"count": 1, "contextSize": 2048},
            "restarts its only replica",
            id="one replica on the only GPU",
        ),
        pytest.param(
            {"count": 2, "contextSize": 1024},
            {"count": 2, "contextSize": 2048},
            None,
            id="two replicas are replaced one after the other",
        ),
        pytest.param(
            {"count": 2, "replicas": 1, "contextSize": 1024},
            {"count": 2, "replicas": 1, "contextSize": 2048},
            None,
            id="a spare node takes the new pod first",
        ),
        pytest.param({"count": 1}, {"count": 2}, None, id="scaling up touches no pod"),
    ],
)
def test_the_change_says_when_requests_will_fail(
    before: dict[str, Any], after: dict[str, Any], said: str | None
) -> None:
    old, new = planned(**before), planned(**after)
    found = interruption(old, new)
    assert (said is None) == (found is None), found
    assert said is None or (found is not None and said in found)
    if found is not None:
        assert strategy(new) == {"type": "Recreate"}


STATEFUL, LEADER_WORKER = Fleet(), Fleet(several_nodes="leaderworkerset")


@pytest.mark.parametrize(
    ("replicas", "fleets", "said"),
    [
        pytest.param(
            2,
            (STATEFUL, STATEFUL),
            "restarts all its replicas together",
            id="StatefulSets know nothing of each other",
        ),
        pytest.param(
            2, (LEADER_WORKER, LEADER_WORKER), None, id="a LeaderWorkerSet replaces one group after the other"
        ),
        pytest.param(
            1, (STATEFUL, STATEFUL), "restarts its only replica", id="the only group of StatefulSets"
        ),
        pytest.param(
            1,
            (LEADER_WORKER, LEADER_WORKER),
            "restarts its only replica",
            id="a LeaderWorkerSet's only group",
        ),
        pytest.param(
            2,
            (STATEFUL, LEADER_WORKER),
            "moves from StatefulSets to a LeaderWorkerSet",
            id="the fleet's way changes",
        ),
    ],
)
def test_of_replicas_over_several_nodes_it_depends_on_the_workload(
    replicas: int, fleets: tuple[Fleet, Fleet], said: str | None
) -> None:
    update = {"nodes_per_replica": 2, "replicas": replicas}
    old, new = (
        planned(2, contextSize=tokens).model_copy(update=update | {"surge": False}) for tokens in (1024, 2048)
    )
    found = interruption(old, new, fleets)
    assert (said is None) == (found is None), found
    assert said is None or (found is not None and said in found)


def test_moving_between_one_node_and_several_names_both_workloads() -> None:
    one = planned(2)
    found = interruption(one, one.model_copy(update={"nodes_per_replica": 2}))
    assert found is not None
    assert found.startswith("moves from a Deployment to StatefulSets, another kind of workload")
