"""Which plan a Workspace carries, and when it may not be obeyed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from tests.watcher import worlds
from watcher import plans

if TYPE_CHECKING:
    from collections.abc import Callable


def _without_plan(document: dict[str, Any]) -> None:
    del document["metadata"]["annotations"][labels.PLAN]


def _edited(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        notes = document["metadata"]["annotations"]
        notes[labels.PLAN] = json.dumps({**json.loads(notes[labels.PLAN]), **fields})

    return edit


def _another_count(document: dict[str, Any]) -> None:
    document["resource"]["count"] = 7


def _no_spec(document: dict[str, Any]) -> None:
    document["kind"] = "Something"


def test_a_rendered_plan_is_obeyed() -> None:
    reading = plans.read(worlds.workspace(2, fallback_instance_types=(worlds.SPARE,)))
    assert reading.problem == ""
    assert reading.plan is not None
    assert reading.plan.nodes.count == 2
    assert reading.instance_types == (worlds.TYPE, worlds.SPARE)
    assert reading.provisioning == "nodeclaim"


@pytest.mark.parametrize(
    ("change", "told", "kept"),
    [
        pytest.param(_without_plan, "no plan: run `berth render`", False, id="no plan at all"),
        pytest.param(_edited(nodes="none"), "cannot be read", False, id="a plan that is no plan"),
        pytest.param(_edited(fromTomorrow=1), "cannot be read", False, id="a field of a newer berth"),
        pytest.param(_edited(version=99), "of version 99", False, id="a newer version"),
        pytest.param(_edited(name="other"), "Workspace other", True, id="another Workspace's plan"),
        pytest.param(_another_count, "from another spec", True, id="a spec changed after the render"),
        pytest.param(_no_spec, "the spec cannot be read", True, id="a spec that is none"),
    ],
)
def test_a_plan_that_may_not_be_obeyed_says_why(
    change: Callable[[dict[str, Any]], None], told: str, kept: bool
) -> None:
    document = worlds.workspace()
    change(document)
    reading = plans.read(document)
    assert told in reading.problem
    assert "`berth render`" in reading.problem or "version 99" in reading.problem
    assert (reading.plan is not None) is kept


def test_a_plan_without_an_instance_type_makes_no_nodes() -> None:
    assert plans.read(worlds.workspace(instance_type=worlds.TYPE)).provisioning == "nodeclaim"
    document = worlds.workspace()
    _edited(nodes={"count": 1, "gpusPerNode": 1})(document)
    assert plans.read(document).provisioning == "none"


def test_the_node_pool_has_the_namespace_that_git_knows() -> None:
    named, unnamed = worlds.workspace(), worlds.workspace()
    _edited(namespace=None)(unnamed)
    assert plans.read(named).node_pool.startswith("chat-assistant-")
    assert plans.read(unnamed).node_pool.startswith("assistant-")
