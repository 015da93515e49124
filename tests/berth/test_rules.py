"""The one rule engine: every problem at once, none hidden behind another, and budgets kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog as catalogs
from berth import fleet as fleets
from berth import rules, workspaces
from berth.fleet import Fleet

if TYPE_CHECKING:
    from berth.rules import Verdict

CATALOG = catalogs.load()


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "test"},
        "resource": {"instanceType": "Standard_NC12s_v3", "labelSelector": {"matchLabels": {"apps": "test"}}},
        "inference": {"preset": {"name": "falcon-7b"}},
    }
    for path, value in changes.items():
        target = base
        *parents, last = path.split("__")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return base


def judge(fleet: Fleet | None = None, **changes: Any) -> Verdict:
    return rules.judge(workspaces.read(document(**changes)), CATALOG, fleet or Fleet())


def fleet(**fields: Any) -> Fleet:
    read, problems = fleets.read(fields)
    assert read is not None
    assert not problems
    return read


def errors(verdict: Verdict) -> dict[str, str]:
    return {problem.field: problem.rule for problem in verdict.problems if problem.severity == "error"}


def test_a_good_workspace_is_valid_and_has_its_plan() -> None:
    verdict = judge()
    assert verdict.valid
    assert verdict.plan is not None


def test_all_names_that_are_wrong_are_told_together() -> None:
    found = errors(judge(inference__preset__name="falcon", resource__instanceType="Standard_NC12s"))
    assert found == {
        "inference.preset.name": "unknown-preset",
        "resource.instanceType": "unknown-instance-type",
    }


def test_a_broken_field_hides_no_unknown_name() -> None:
    found = errors(judge(resource__count=0, inference__preset__name="falcon"))
    assert set(found) == {"resource.count", "inference.preset.name"}


def test_a_broken_field_that_sizing_does_not_need_hides_no_misfit() -> None:
    found = errors(judge(metadata__labels={"bad key!": "x"}, inference__preset__name="llama-2-70b"))
    assert found["resource.instanceType"] == "fit"
    assert len(found) == 2


def test_a_misspelt_sizing_field_is_not_judged_as_if_it_were_absent() -> None:
    verdict = judge(inference__preset__name="llama-2-70b", inference__llamacpp__contextsize=128)
    assert list(errors(verdict).values()) == ["unknown-field"]


def test_warnings_leave_the_plan() -> None:
    verdict = judge()
    assert {problem.severity for problem in verdict.problems} == {"warning"}
    assert verdict.plan is not None


def test_what_is_no_workspace_has_no_plan() -> None:
    assert rules.judge(workspaces.read([]), CATALOG, Fleet()).plan is None


@pytest.mark.parametrize(
    ("budget", "instance", "words"),
    [
        pytest.param({"gpus": 3}, "Standard_NC12s_v3", "would take 4 GPUs, and its budget is 3", id="GPUs"),
        pytest.param(
            {"costPerMonth": 8000}, "Standard_NC12s_v3", "a month, and its budget is 8000", id="money"
        ),
        pytest.param(
            {"costPerMonth": 1234567.5 / 365}, "Standard_NC12s_v3", "its budget is 3382.38", id="cents"
        ),
    ],
)
def test_a_namespace_over_its_budget_is_refused(budget: dict[str, Any], instance: str, words: str) -> None:
    own = fleet(budgets={"team": budget})
    plans = [judge(own, metadata__namespace="team", resource__instanceType=instance).plan for _ in range(2)]
    found = rules.over_budget([plan for plan in plans if plan is not None], own)
    assert len(found) == 2
    assert all(words in problem.reason for _, problem in found)


def test_a_namespace_within_its_budget_is_left_alone() -> None:
    own = fleet(budgets={"team": {"gpus": 2, "costPerMonth": 5000}})
    plan = judge(own, metadata__namespace="team").plan
    assert plan is not None
    assert rules.over_budget([plan], own) == []


def test_a_budget_of_money_needs_every_price() -> None:
    own = fleet(
        budgets={"team": {"costPerMonth": 1_000_000}},
        instanceTypes=[{"name": "own-node", "gpuModel": "NVIDIA A100 80GB", "gpuCount": 1}],
    )
    catalog = CATALOG.extended(instance_types=own.instance_types)
    reading = workspaces.read(document(metadata__namespace="team", resource__instanceType="own-node"))
    plan = rules.judge(reading, catalog, own).plan
    assert plan is not None
    ((_, problem),) = rules.over_budget([plan], own)
    assert "price of own-node is unknown" in problem.reason
    assert problem.fix == "add it to prices in berth.yaml"


@pytest.mark.parametrize(
    ("provisioning", "namespace", "warned"),
    [("nodepool", None, True), ("nodepool", "chat", False), ("nodeclaim", None, False)],
)
def test_a_node_pool_needs_a_namespace_of_its_own(
    provisioning: str, namespace: str | None, warned: bool
) -> None:
    document = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "a", **({"namespace": namespace} if namespace else {})},
        "resource": {"labelSelector": {"matchLabels": {"apps": "a"}}},
        "inference": {"preset": {"name": "falcon-7b"}},
    }
    fleet = fleets.read({"provisioning": provisioning})[0]
    assert fleet is not None
    verdict = rules.judge(workspaces.read(document), catalogs.load(), fleet)
    assert verdict.valid
    assert ("no-namespace" in {problem.rule for problem in verdict.problems}) is warned
