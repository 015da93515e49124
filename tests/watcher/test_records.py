"""What is remembered of each node: attempts, instance types in order, and how long is waited."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise

import pytest

from tests.watcher import worlds
from tests.watcher.worlds import NOW, SPARE, TYPE, UID
from watcher import observed, records
from watcher.failures import Failure
from watcher.reasons import Reason
from watcher.records import Entry

CAPACITY = Failure(Reason.INSUFFICIENT_CAPACITY, "none left")
BROKEN = Failure(Reason.LAUNCH_FAILED, "no right")
TYPES = (TYPE, SPARE)


def wait_s(entry: Entry) -> float:
    """Seconds until the next attempt."""
    return 0.0 if entry.retry_at is None else (entry.retry_at - NOW).total_seconds()


def test_names_are_what_azure_takes_and_differ() -> None:
    names = {records.name(UID, index, attempt) for index in range(30) for attempt in range(30)}
    assert len(names) == 900
    assert all(re.fullmatch("[a-z][a-z0-9]{0,10}", name) for name in names)
    assert records.name(UID, 1, 11) != records.name(UID, 11, 1)


def test_entries_survive_the_status() -> None:
    entry = Entry(1, 4, "ws1", TYPE, "n", "Failing", "QuotaExceeded", "none", 3, NOW, NOW)
    assert records.read({"nodes": [entry.to_json()]}) == {1: entry}
    assert records.read({"nodes": [Entry(0).to_json()]}) == {0: Entry(0)}


@pytest.mark.parametrize(
    "broken", [3, {}, {"index": "0", "attempt": 0}, {"index": -1, "attempt": 0}, {"index": 0}], ids=str
)
def test_an_entry_that_cannot_be_read_is_forgotten(broken: object) -> None:
    assert records.read({"nodes": [broken]}) == {}
    assert records.read({"nodes": broken}) == {}


def test_an_unknown_reason_of_another_version_is_dropped() -> None:
    assert records.read({"nodes": [{"index": 0, "attempt": 0, "reason": "Tomorrow"}]})[0].reason == ""


def test_instance_types_follow_each_other_and_then_comes_a_wait() -> None:
    entry, seen = Entry(0, instance_type=TYPE), []
    for _ in range(5):
        entry = entry.failed(CAPACITY, TYPES, NOW)
        seen.append((entry.attempt, entry.instance_type, wait_s(entry)))
    assert seen == [(1, SPARE, 0), (2, TYPE, 30), (3, SPARE, 0), (4, TYPE, 60), (5, SPARE, 0)]


def test_waits_double_up_to_half_an_hour() -> None:
    entry, waits = Entry(0, instance_type=TYPE), []
    for _ in range(40):
        entry = entry.failed(BROKEN, TYPES, NOW)
        waits.append(wait_s(entry))
    assert waits[:7] == [30, 60, 120, 240, 480, 960, 1800]
    assert all(later >= sooner for sooner, later in pairwise(waits))
    assert max(waits) == 1800
    assert entry.instance_type == TYPE


def test_a_type_that_the_plan_no_longer_names_gives_way_to_the_first() -> None:
    entry = Entry(0, instance_type="Standard_Old").failed(CAPACITY, TYPES, NOW)
    assert entry.instance_type == TYPE
    assert wait_s(entry) == 30


def test_a_node_that_came_up_leaves_no_failures_behind() -> None:
    entry = Entry(0, 1, failures=4, reason="QuotaExceeded", message="none")
    waiting = entry.seen(observed.claim(worlds.claim(0, 1, stage=1), UID))
    assert (waiting.failures, waiting.reason, waiting.phase) == (4, "QuotaExceeded", "Registering")
    up = entry.seen(observed.claim(worlds.claim(0, 1, stage=3, node_name="n"), UID))
    assert (up.failures, up.reason, up.message, up.node, up.phase) == (0, "", "", "n", "Ready")


@pytest.mark.parametrize(
    ("stage", "failure", "after_s", "expected"),
    [
        pytest.param(0, None, 10, Reason.INSUFFICIENT_CAPACITY, id="deleted at once without a word"),
        pytest.param(0, None, 310, Reason.LAUNCH_TIMEOUT, id="not launched in five minutes"),
        pytest.param(1, None, 900, Reason.REGISTRATION_TIMEOUT, id="not registered in a quarter of an hour"),
        pytest.param(2, None, 900, Reason.REGISTRATION_TIMEOUT, id="never initialized"),
        pytest.param(0, ("LaunchFailed", "no quota"), 310, Reason.QUOTA_EXCEEDED, id="told before it went"),
        pytest.param(3, None, 9999, Reason.NODE_LOST, id="deleted after it was ready"),
    ],
)
@pytest.mark.parametrize("terminating", [True, False], ids=["still terminating", "gone"])
def test_why_a_claim_went(
    stage: int, failure: tuple[str, str] | None, after_s: float, expected: Reason, terminating: bool
) -> None:
    claim = observed.claim(worlds.claim(stage=stage, failure=failure), UID)
    entry = Entry(0, reason="LaunchFailed", message="of an attempt before").seen(claim)
    after = entry.gone(claim if terminating else None, TYPES, NOW + timedelta(seconds=after_s))
    assert (after.reason, after.attempt, after.name) == (expected, 1, "")
    assert "of an attempt before" not in after.message


def test_a_lost_node_is_asked_for_again_at_once() -> None:
    entry = Entry(0).seen(observed.claim(worlds.claim(stage=3, node_name="gpu-1"), UID))
    after = entry.gone(None, TYPES, NOW)
    assert (after.retry_at, after.failures, after.message) == (None, 0, "node gpu-1 is gone")


def test_a_reason_seen_once_on_a_claim_is_kept_until_it_goes() -> None:
    failing = observed.claim(worlds.claim(failure=("LaunchFailed", "no quota")), UID)
    calm = observed.claim(worlds.claim(), UID)
    entry = Entry(0).seen(failing).seen(calm)
    assert entry.gone(None, TYPES, NOW).reason == Reason.QUOTA_EXCEEDED
