"""The exchange of certificates as a pure decision: each phase, and what ends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from webhook.certificates import rotation
from webhook.certificates.rotation import (
    Authority,
    Drop,
    Leaf,
    NewAuthority,
    NewLeaf,
    Observed,
    Policy,
    Publish,
    Replica,
    Rest,
    Step,
    Stored,
    Wait,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
POLICY = Policy(settle_s=60)
OLD = Authority("old", NOW - timedelta(days=10), NOW + YEAR)
NEW = Authority("new", NOW, NOW + YEAR)
NAMES = frozenset({"svc"})


def leaf(issuer: str, name: str = "leaf", days: int = 90) -> Leaf:
    return Leaf(name, issuer, NOW - timedelta(days=1), NOW + timedelta(days=days), NAMES)


STEADY = Stored((OLD,), "old", leaf("old"))
PUBLISHED = Stored((NEW, OLD), "new", leaf("old"))
SWITCHED = Stored((NEW, OLD), "new", leaf("new", "fresh"))
BOTH = rotation.bundle_id(("new", "old"))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(
            Observed(None), NewAuthority((), None, "the Secret is gone or broken"), id="first start"
        ),
        pytest.param(
            Observed(None, remembered=STEADY),
            NewAuthority(("old",), "remembered", "the Secret is gone or broken"),
            id="a lost Secret goes on with what is remembered",
        ),
        pytest.param(
            Observed(None, published=((OLD,),)),
            NewAuthority(("old",), None, "the Secret is gone or broken"),
            id="a lost Secret and no memory goes on trusting what is published",
        ),
        pytest.param(Observed(STEADY, published=((OLD,), ())), Publish(), id="git emptied a bundle"),
        pytest.param(
            Observed(STEADY, published=((OLD, NEW),)), Publish(), id="a strange authority is published"
        ),
        pytest.param(
            Observed(STEADY, published=((OLD,),), requested=True, names=NAMES),
            NewAuthority(("old",), "stored", "somebody asked for it"),
            id="by hand",
        ),
        pytest.param(
            Observed(PUBLISHED, published=((NEW, OLD),), replicas=(Replica("leaf", "old"),), published_s=99),
            Wait("not every replica knows the new bundle"),
            id="a replica has not seen the bundle",
        ),
        pytest.param(
            Observed(PUBLISHED, published=((NEW, OLD),), replicas=(Replica("leaf", BOTH),), published_s=59),
            Wait("API servers are given time to take up the new bundle"),
            id="API servers are given time",
        ),
        pytest.param(
            Observed(PUBLISHED, published=((NEW, OLD),), replicas=(Replica("leaf", BOTH),), published_s=60),
            NewLeaf("the new authority is trusted everywhere"),
            id="the leaf is exchanged",
        ),
        pytest.param(
            Observed(Stored((NEW,), "new", None), published=((NEW,),), replicas=(Replica(None, "new"),)),
            NewLeaf("the new authority is trusted everywhere"),
            id="a first start waits for nobody",
        ),
        pytest.param(
            Observed(SWITCHED, published=((NEW, OLD),), replicas=(Replica("leaf", BOTH),), switched_s=None),
            Wait("not every replica shows the new certificate"),
            id="a replica shows the old leaf",
        ),
        pytest.param(
            Observed(SWITCHED, published=((NEW, OLD),), replicas=(Replica("fresh", BOTH),), switched_s=60),
            Drop(("new",)),
            id="the old authority is dropped",
        ),
        pytest.param(
            Observed(STEADY, published=((OLD,),), names=frozenset({"svc", "other"})),
            NewLeaf("the server has other names now"),
            id="other names",
        ),
    ],
)
def test_the_next_step_follows_from_what_is_seen(seen: Observed, expected: Step) -> None:
    assert rotation.decide(seen, NOW, POLICY) == expected


def test_everything_is_renewed_at_two_thirds_of_its_life() -> None:
    seen = Observed(STEADY, published=((OLD,),), names=NAMES)
    step = rotation.decide(seen, NOW, POLICY)
    assert isinstance(step, Rest)
    assert isinstance(rotation.decide(seen, step.until, POLICY), NewLeaf)
    assert isinstance(rotation.decide(seen, step.until - timedelta(seconds=1), POLICY), Rest)
    lasting = Observed(Stored((OLD,), "old", leaf("old", days=365)), published=((OLD,),), names=NAMES)
    due = OLD.not_before + (OLD.not_after - OLD.not_before) * 2 / 3
    assert isinstance(rotation.decide(lasting, due, POLICY), NewAuthority)


def test_an_ended_leaf_is_replaced_without_waiting() -> None:
    ended = replace(PUBLISHED, leaf=replace(leaf("old"), not_after=NOW - timedelta(days=1)))
    seen = Observed(ended, published=((NEW, OLD),), replicas=(Replica("leaf", None),), published_s=0)
    assert isinstance(rotation.decide(seen, NOW, POLICY), NewLeaf)


def test_a_bundle_stays_small_however_often_an_exchange_is_interrupted() -> None:
    many = tuple(Authority(f"{number:02}", NOW - timedelta(days=number), NOW + YEAR) for number in range(30))
    shown = Stored(many, "00", leaf("29"))
    step = rotation.decide(Observed(None, remembered=shown), NOW, POLICY)
    assert isinstance(step, NewAuthority)
    assert len(step.keep) == rotation.MOST_AUTHORITIES - 1
    assert "29" in step.keep
