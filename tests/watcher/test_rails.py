"""Budgets and limits before a node is made: what they allow, and their words."""

from __future__ import annotations

from typing import Any

import pytest

from berth import catalog, labels
from berth import fleet as fleets
from tests.watcher import worlds
from tests.watcher.worlds import SPARE, TYPE
from watcher import rails
from watcher.rails import Answer
from watcher.reasons import Reason
from watcher.world import Amount, Price, Usage

PRICES = {TYPE: Price(1, 0.5), SPARE: Price(2, 2.0), "Unpriced": Price(1)}
BUSY = Amount(nodes=3, gpus=3, cost_per_hour=1.5, creates=3)


def allow(
    fields: dict[str, Any], *wanted: str, usage: Amount = BUSY, elsewhere: Amount | None = None,
    group: int = 1, have: int = 0,
) -> Answer:  # fmt: skip
    """What a fleet file with these fields allows, with so much in use already."""
    fleet, problems = fleets.read(fields)
    assert fleet is not None, problems
    workspace = worlds.workspace()
    plan = worlds.scene(workspace).reading.plan
    assert plan is not None
    changed = plan.model_copy(update={"nodes_per_replica": group})
    workspace["metadata"]["annotations"][labels.PLAN] = changed.dumps()
    scene = worlds.scene(workspace, fleet=fleet, usage=Usage(usage + (elsewhere or Amount()), usage))
    held = rails.of(fleet, catalog.load())
    return rails.allow(scene, wanted or (TYPE,), type(held)(held.cluster, held.namespaces, PRICES), have=have)


@pytest.mark.parametrize(
    ("fields", "kind", "reason", "words"),
    [
        pytest.param({}, TYPE, None, "", id="no rails"),
        pytest.param({"budgets": {"chat": {"gpus": 4}}}, TYPE, None, "", id="the last GPU of a budget"),
        pytest.param(
            {"budgets": {"chat": {"gpus": 3}}}, TYPE, Reason.OVER_BUDGET,
            "chat may use 3 GPUs, and this Workspace would make it 4", id="one GPU more",
        ),
        pytest.param({"budgets": {"lab": {"gpus": 0}}}, TYPE, None, "", id="another namespace's budget"),
        pytest.param({"budgets": {"chat": {"costPerMonth": 1460}}}, TYPE, None, "", id="the last money"),
        pytest.param(
            {"budgets": {"chat": {"costPerMonth": 1459}}}, TYPE, Reason.OVER_BUDGET,
            "chat may cost 1459 a month, and this Workspace would make it 1460", id="too much money",
        ),
        pytest.param(
            {"budgets": {"chat": {"costPerMonth": 9999}}}, "Unpriced", Reason.OVER_BUDGET,
            "the price of Unpriced is unknown", id="money and no price",
        ),
        pytest.param({"budgets": {"chat": {"gpus": 9}}}, "Unpriced", None, "", id="no money, so no price"),
        pytest.param({"limits": {"cluster": {"nodes": 9}}}, TYPE, None, "", id="the cluster's last node"),
        pytest.param(
            {"limits": {"cluster": {"nodes": 8}}}, TYPE, Reason.OVER_LIMIT,
            "the cluster may have 8 nodes, and this Workspace would make it 9", id="full cluster",
        ),
        pytest.param(
            {"limits": {"namespaces": {"chat": {"nodes": 3}}}}, TYPE, Reason.OVER_LIMIT,
            "chat may have 3 nodes, and this Workspace would make it 4", id="full namespace",
        ),
        pytest.param(
            {"limits": {"cluster": {"costPerHour": 4.4}}}, TYPE, Reason.OVER_LIMIT,
            "the cluster may cost 4.4 an hour, and this Workspace would make it 4.50", id="dear cluster",
        ),
        pytest.param(
            {"limits": {"cluster": {"costPerHour": 99}}}, "Unpriced", Reason.OVER_LIMIT,
            "the price of Unpriced is unknown", id="limit of cost and no price",
        ),
        pytest.param(
            {"limits": {"cluster": {"createsPerHour": 8}}}, TYPE, Reason.CREATES_LIMITED,
            "the cluster may ask for 8 nodes an hour", id="too fast",
        ),
    ],
)  # fmt: skip
def test_one_more_node(fields: dict[str, Any], kind: str, reason: Reason | None, words: str) -> None:
    answer = allow(fields, kind, elsewhere=Amount(5, 10, 2.5, 5))
    if reason is None:
        assert answer == Answer(1)
        return
    assert answer.allowed == 0
    assert answer.blocked is not None
    assert answer.blocked.reason == reason
    assert words in answer.blocked.message


def test_as_many_as_there_is_room_for_and_the_words_tell_of_all() -> None:
    answer = allow({"budgets": {"chat": {"gpus": 5}}}, *[TYPE] * 4)
    assert answer.allowed == 2
    assert answer.blocked is not None
    assert "would make it 7" in answer.blocked.message


@pytest.mark.parametrize(("have", "allowed"), [(0, 2), (1, 3), (2, 2), (3, 3)])
def test_a_replica_on_two_nodes_gets_both_or_none(have: int, allowed: int) -> None:
    answer = allow({"limits": {"cluster": {"nodes": 6}}}, *[TYPE] * 5, group=2, have=have)
    assert answer.allowed == allowed


def test_a_rate_may_cut_a_replica_for_it_opens_again() -> None:
    answer = allow({"limits": {"cluster": {"createsPerHour": 4}}}, TYPE, TYPE, group=2)
    assert answer.allowed == 1
    assert answer.blocked is not None
    assert answer.blocked.reason == Reason.CREATES_LIMITED


def test_gpus_are_those_of_the_instance_type_that_is_asked_for() -> None:
    assert allow({"budgets": {"chat": {"gpus": 4}}}, SPARE).allowed == 0
    assert allow({"budgets": {"chat": {"gpus": 5}}}, SPARE).allowed == 1


def test_what_a_claim_takes() -> None:
    held = rails.of(fleets.Fleet(), catalog.load())
    known = rails.amount(worlds.claim(), held)
    assert (known.nodes, known.gpus) == (1, 1)
    assert known.cost_per_hour == held.prices[TYPE].per_hour
    assert rails.amount(worlds.claim(instance_type="unknown"), held) == Amount(1)
    assert rails.amount({"kind": "NodeClaim"}, held) == Amount(1)
