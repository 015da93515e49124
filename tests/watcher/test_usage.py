"""The ledger's sums are what counting every claim again would give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from watcher.usage import Ledger
from watcher.world import Amount, Usage

NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
names, spaces = st.sampled_from("abcdef"), st.sampled_from(["one", "two"])
prices = st.integers(0, 40_000_000).map(lambda micro: micro / 1_000_000)
amounts = st.builds(Amount, nodes=st.just(1), gpus=st.integers(0, 8), cost_per_hour=prices)


@given(st.lists(st.tuples(names, spaces, st.one_of(st.none(), amounts)), max_size=60))
def test_sums_are_those_of_the_claims_that_are_there(steps: list[tuple[str, str, Amount | None]]) -> None:
    ledger = Ledger()
    there: dict[str, tuple[str, Amount]] = {}
    for claim, namespace, amount in steps:
        if amount is None:
            ledger.drop(claim)
            there.pop(claim, None)
        else:
            ledger.put(claim, namespace, amount)
            there[claim] = (namespace, amount)
        found = ledger.usage("one", NOW)
        everywhere = [one for _, one in there.values()]
        here = [one for whose, one in there.values() if whose == "one"]
        for told, expected in ((found.cluster, everywhere), (found.namespace, here)):
            assert (told.nodes, told.gpus) == (len(expected), sum(one.gpus for one in expected))
            assert round(told.cost_per_hour, 6) == round(sum(one.cost_per_hour for one in expected), 6)


def test_an_empty_ledger_is_exactly_zero_again() -> None:
    ledger = Ledger()
    for number in range(1000):
        ledger.put(str(number), "one", Amount(1, 1, 0.1 + number / 7))
    for number in range(1000):
        ledger.drop(str(number))
    assert ledger.usage("one", NOW) == Usage()


def test_creates_are_counted_for_an_hour_even_of_claims_that_are_gone() -> None:
    ledger = Ledger()
    ledger.created("a", "one", NOW)
    ledger.created("b", "two", NOW + timedelta(minutes=30))
    ledger.created("b", "two", NOW + timedelta(minutes=50))
    ledger.created("c", "one", NOW)
    ledger.uncreated("c")
    ledger.drop("a")
    assert ledger.usage("one", NOW + timedelta(minutes=59)).cluster.creates == 2
    assert ledger.usage("one", NOW + timedelta(minutes=59)).namespace.creates == 1
    assert ledger.usage("one", NOW + timedelta(minutes=61)).cluster.creates == 1
    assert ledger.usage("two", NOW + timedelta(minutes=91)).cluster.creates == 0
