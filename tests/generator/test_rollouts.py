"""Whether a change of plans interrupts those who ask the model, and that the pull request says so."""

from __future__ import annotations

from typing import Any

import pytest

from berth import catalog, sizing, workspaces
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
