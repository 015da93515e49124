"""Figures of a long test, as a file for whoever asked for them: BERTH_REPORT_DIR names the folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def write(name: str, figures: dict[str, Any]) -> None:
    """Write `name.json`, where a folder is named."""
    if folder := os.environ.get("BERTH_REPORT_DIR"):
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Return what is usually told of many durations."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    told = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in at.items()}
    return {name: round(value * 1000, 3) for name, value in {**told, "slowest": ordered[-1]}.items()}
