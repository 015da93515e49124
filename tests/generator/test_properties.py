"""Whatever a fleet holds: what is checked can be rendered, in any order, and imported as it is."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth import rules, workspaces
from generator import rendering
from generator.importing import translation
from generator.study import study
from tests.random_specs import CATALOG, FLEETS, documents

if TYPE_CHECKING:
    from pathlib import Path

    from berth.fleet import Fleet

FLEET = st.lists(documents(), min_size=1, max_size=4).map(
    lambda found: [
        {**document, "metadata": {"name": f"model-{index}"}} for index, document in enumerate(found)
    ]
)
IN_A_FOLDER = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def backwards(value: Any) -> Any:
    """The same mapping with its keys in the opposite order, all the way down."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


def written(path: Path, found: list[dict[str, Any]]) -> str:
    path.write_text("---\n".join(yaml.safe_dump(document, sort_keys=False) for document in found))
    return str(path)


@IN_A_FOLDER
@given(fleet=FLEET)
def test_what_check_takes_is_rendered_and_nothing_else(fleet: list[dict[str, Any]], tmp_path: Path) -> None:
    found = study([written(tmp_path / "fleet.yaml", fleet)])
    valid = [subject.name for subject in found.subjects if subject.valid]
    assert [target.folder for target in rendering.targets(found)] == sorted(valid, key=str)


@IN_A_FOLDER
@given(fleet=FLEET, order=st.randoms(use_true_random=False))
def test_neither_order_of_documents_nor_of_keys_changes_what_is_rendered(
    fleet: list[dict[str, Any]], order: Any, tmp_path: Path
) -> None:
    mixed = [backwards(document) for document in fleet]
    order.shuffle(mixed)
    first = rendering.targets(study([written(tmp_path / "fleet.yaml", fleet)]))
    second = rendering.targets(study([written(tmp_path / "fleet.yaml", mixed)]))
    assert [(one.folder, one.inputs) for one in first] == [(one.folder, one.inputs) for one in second]


@settings(max_examples=60, deadline=None)
@given(document=documents(), fleet=FLEETS)
def test_what_a_cluster_gives_back_is_planned_as_what_was_applied(
    document: dict[str, Any], fleet: Fleet
) -> None:
    stored = copy.deepcopy(document)
    stored["metadata"] |= {
        "uid": "6f1d",
        "resourceVersion": "7",
        "generation": 1,
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(document)},
    }
    stored["resource"].setdefault("count", 1)
    stored["inference"]["preset"]["accessMode"] = "public"
    stored["status"] = {"conditions": []}
    brought = translation.workspace(stored).document
    before = rules.judge(workspaces.read(document), CATALOG, fleet)
    after = rules.judge(workspaces.read(brought), CATALOG, fleet)
    assert after.plan == before.plan
    assert after.problems == before.problems
