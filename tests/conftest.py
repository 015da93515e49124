"""What every test may use: the switch that rewrites the golden folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what is rendered now to tests/golden instead of comparing",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether this run writes the golden folders; git shows then what changed."""
    return bool(request.config.getoption("--update-golden"))


def pytest_report_header(config: pytest.Config) -> Sequence[str]:
    return ["golden folders are being rewritten"] if config.getoption("--update-golden") else []
