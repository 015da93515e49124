"""What is remembered of Workspaces, and what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from berth import catalog
from berth.fleet import Fleet
from tests.webhook.asking import workspace
from tests.webhook.test_admission import planned
from webhook import verdicts
from webhook.verdicts import Memory

CATALOG = catalog.load()


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []
    real = verdicts._judge

    def judge(*given: Any) -> verdicts.Judged:
        asked.append(1)
        return real(*given)

    monkeypatch.setattr(verdicts, "_judge", judge)
    return asked


def _metadata(**fields: Any) -> dict[str, Any]:
    document = planned()
    document["metadata"] = {**document["metadata"], **fields}
    return document


@pytest.mark.parametrize(
    ("again", "anew"),
    [
        pytest.param(planned(), False, id="the same"),
        pytest.param(
            _metadata(uid="1", resourceVersion="2", managedFields=[{}]), False, id="stored meanwhile"
        ),
        pytest.param({**planned(), "status": {"conditions": []}}, False, id="another status"),
        pytest.param(_metadata(name="other"), True, id="another name"),
        pytest.param(_metadata(annotations={}), True, id="without its plan"),
        pytest.param(planned(inference={"llamacpp": {"parallel": 1}}), True, id="another spec"),
        pytest.param(_metadata(labels={"a": 1}), True, id="labels that are wrong"),
    ],
)
def test_it_is_judged_anew_where_something_changed(
    monkeypatch: pytest.MonkeyPatch, again: dict[str, Any], anew: bool
) -> None:
    asked, memory = _counted(monkeypatch), Memory()
    first = memory.judge(planned(), CATALOG, Fleet())
    second = memory.judge(again, CATALOG, Fleet())
    assert len(asked) == 1 + anew
    assert anew or second is first


def test_another_fleet_file_makes_everything_new(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, memory = _counted(monkeypatch), Memory()
    memory.judge(planned(), CATALOG, Fleet())
    assert memory.planned(planned(), Fleet())
    assert not memory.planned(planned(), Fleet(cloud="aws"))
    memory.judge(planned(), CATALOG, Fleet(cloud="aws"))
    assert len(asked) == 2


def test_a_spec_is_known_to_be_planned_whatever_its_metadata_says() -> None:
    memory = Memory()
    memory.judge(planned(), CATALOG, Fleet())
    assert memory.planned(_metadata(name="other", annotations={}), Fleet())
    assert not memory.planned(workspace(inference={"preset": {"name": "falcon-40b"}}), Fleet())


def test_a_caller_that_changes_its_object_changes_no_verdict() -> None:
    memory, document = Memory(), planned()
    first = memory.judge(document, CATALOG, Fleet())
    problems = copy.deepcopy(first.problems)
    document["inference"] = {"preset": {"name": "no-such-model"}}
    assert memory.judge(planned(), CATALOG, Fleet()).problems == problems
    assert any(problem.severity == "error" for problem in memory.judge(document, CATALOG, Fleet()).problems)


def test_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "REMEMBERED", 3)
    asked, memory = _counted(monkeypatch), Memory()
    for name in ("a", "b", "c", "d", "d", "a"):
        memory.judge(_metadata(name=name), CATALOG, Fleet())
    assert len(asked) == 5
