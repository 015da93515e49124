"""Every condition, reason, phase and Event is explained, and nothing is that does not occur."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import conditions_reference
from watcher import records
from watcher.observed import Stage
from watcher.reasons import CONDITIONS, MEANINGS, Condition, Reason

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.name: path.read_text() for path in (ROOT / "watcher").rglob("*.py")}
PAGE = conditions_reference.text()


def test_every_reason_and_every_condition_has_its_words() -> None:
    assert set(MEANINGS) == set(Reason)
    assert set(CONDITIONS) == set(Condition)
    assert all(one.means.endswith(".") and one.do.endswith(".") for one in MEANINGS.values())
    assert [name for name in [*Reason, *Condition] if f"| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize("kind", [Reason, Condition], ids=["reasons", "conditions"])
def test_none_is_there_that_nothing_writes(kind: type[Reason] | type[Condition]) -> None:
    code = "".join(text for name, text in SOURCES.items() if name != "reasons.py")
    assert [one.name for one in kind if f"{kind.__name__}.{one.name}" not in code] == []


def test_phases_and_events_are_those_of_the_code() -> None:
    phases = {records.WAITING, records.FAILING, *(stage.word for stage in Stage)}
    assert [phase for phase in phases if f"`{phase}`" not in PAGE] == []
    told = set(re.findall(r'Tell\("\w+", "(\w+)"', SOURCES["reconcile.py"]))
    assert told == set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Events")[2], re.MULTILINE))


def test_the_page_is_fresh() -> None:
    assert (ROOT / "docs" / "reference" / "conditions.md").read_text() == PAGE
