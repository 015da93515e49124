"""What the benchmark of the front concludes from its rounds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _benchmark() -> Any:
    """`benchmarks/` is no package; its files are run by their paths."""
    path = Path(__file__).parents[2] / "benchmarks" / "front.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_the_front", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


front = _benchmark()


@pytest.mark.parametrize(
    ("rounds", "low", "high"),
    [
        pytest.param([1.0, 0.9, 1.1], 0.9, 1.1, id="of few rounds the whole range"),
        pytest.param([0.5, *[1.0] * 5, 2.0], 0.5, 2.0, id="of seven the whole range"),
        pytest.param([0.5, 0.6, *[1.0] * 8, 1.9, 2.0], 1.0, 1.0, id="of twelve two at either end less"),
    ],
)
def test_the_range_of_the_true_median(rounds: list[float], low: float, high: float) -> None:
    found = front.ratio(rounds, [1.0] * len(rounds))
    assert (found.low, found.high) == (low, high)


def test_rounds_are_compared_with_their_own() -> None:
    assert front.ratio([10.0, 20.0, 30.0], [10.0, 20.0, 30.0]) == front.Ratio(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("tokens", "first", "wrong", "undecided"),
    [
        pytest.param((0.99, 0.98, 1.0), (1.0, 0.98, 1.04), 0, 0, id="all within the limits"),
        pytest.param((0.99, 0.9, 1.0), (1.0, 0.98, 1.2), 0, 2, id="good medians that may be luck"),
        pytest.param((0.9, 0.8, 0.96), (1.2, 1.1, 1.3), 2, 0, id="worse for certain"),
        pytest.param((0.96, 0.9, 1.0), (1.06, 1.0, 1.1), 2, 2, id="worse, and that may be bad luck"),
    ],
)
def test_the_verdict(
    tokens: tuple[float, float, float], first: tuple[float, float, float], wrong: int, undecided: int
) -> None:
    keys = ("median", "low", "high")
    row: dict[str, Any] = {
        "frontToBare": dict(zip(keys, tokens, strict=True)),
        "firstTokenRatio": dict(zip(keys, first, strict=True)),
    }
    found = front.judge({"rows": {"1": row}})
    assert tuple(map(len, found)) == (wrong, undecided)
    slow = {"frontTo llama_cpp.server": {"median": 1.5, "low": 1.4, "high": 1.6}}
    assert len(front.judge({"rows": {"16": {**row, **slow}}})[0]) == wrong + 1
    assert len(front.judge({"rows": {"4": {**row, **slow}}})[0]) == wrong
