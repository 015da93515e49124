"""Quantities are read as Kubernetes reads them and written for people in GiB."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth import quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1500m", Decimal("1.5"), id="milli"),
        pytest.param("8Gi", Decimal(8 * 2**30), id="binary suffix"),
        pytest.param("2G", Decimal(2 * 10**9), id="decimal suffix"),
        pytest.param("1e3", Decimal(1000), id="exponent"),
        pytest.param(".5", Decimal("0.5"), id="no leading zero"),
        pytest.param(3, Decimal(3), id="a plain number"),
    ],
)
def test_a_quantity_is_read(text: str | int, value: Decimal) -> None:
    assert quantities.parse(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1Q", "1 Gi", "1Gib", "--1", "1e", "0x10", "NaN"])
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="no Kubernetes quantity"):
        quantities.parse(text)


@given(st.integers(min_value=0, max_value=2**60))
def test_written_bytes_read_back_exactly(count: int) -> None:
    assert quantities.parse(quantities.format_bytes(count)) == count


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.0 GiB"), (52 * 2**20, "0.05 GiB"), (2**30, "1.0 GiB"), (15_500_000_000, "14.4 GiB")],
)
def test_people_read_gib(count: int, text: str) -> None:
    assert quantities.gib(count) == text
