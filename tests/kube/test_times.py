"""Times of the API, read and written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kube import times

MOMENT = datetime(2026, 11, 28, 9, 0, 5, 123456, tzinfo=UTC)


def test_a_moment_is_written_as_its_field_holds_it() -> None:
    assert times.seconds(MOMENT) == "2026-11-28T09:00:05Z"
    assert times.micros(MOMENT) == "2026-11-28T09:00:05.123456Z"


@pytest.mark.parametrize("text", ["2026-11-28T09:00:05.123456Z", "2026-11-28T10:00:05.123456+01:00"])
def test_a_time_is_read_in_utc(text: str) -> None:
    assert times.read(text) == MOMENT
    assert times.read(text).tzinfo is UTC


@pytest.mark.parametrize("text", [None, "", "yesterday", 7, {}])
def test_what_is_no_time_is_the_beginning_of_time(text: Any) -> None:
    assert times.read(text) == datetime.min.replace(tzinfo=UTC)
