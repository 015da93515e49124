"""Flags, their variables, and the values that they refuse."""

from __future__ import annotations

import argparse

import pytest

from kube import flags


def front(**environment: str) -> argparse.ArgumentParser:
    """A program of one flag of each sort."""
    found = argparse.ArgumentParser(prog="p")
    flags.add(found, "--poll-seconds", flags.positive, 2.0, "between two looks")
    flags.add(found, "--workers", flags.count, 8, "at the same time")
    flags.add(found, "--settle-seconds", flags.not_negative, 60.0, "to settle")
    flags.add_replica(found, environment, 15.0)
    found.add_argument("--dry-run", action="store_true")
    found.add_argument("--dns-name", action="append", default=[])
    found.add_argument("--log-level", default="info", choices=["debug", "info"])
    flags.from_environment(found, environment)
    return found


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        pytest.param("BERTH_POLL_SECONDS", "0.5", "poll_seconds", 0.5, id="a number"),
        pytest.param("BERTH_WORKERS", "3", "workers", 3, id="a count"),
        pytest.param("BERTH_SETTLE_SECONDS", "0", "settle_seconds", 0.0, id="none at all"),
        pytest.param("BERTH_DRY_RUN", "Yes", "dry_run", True, id="a switch"),
        pytest.param("BERTH_DRY_RUN", "0", "dry_run", False, id="a switch that is off"),
        pytest.param("BERTH_DNS_NAME", "a,b", "dns_name", ["a", "b"], id="a list"),
        pytest.param("BERTH_LOG_LEVEL", "debug", "log_level", "debug", id="a choice"),
        pytest.param("BERTH_POD_NAME", "w-0", "identity", "w-0", id="the pod's own name"),
        pytest.param("BERTH_WORKERS", "", "workers", 8, id="an empty variable is none"),
    ],
)
def test_a_variable_is_its_flags_default(variable: str, text: str, name: str, value: object) -> None:
    assert getattr(front(**{variable: text}).parse_args([]), name) == value


def test_the_command_line_wins() -> None:
    assert front(BERTH_WORKERS="3").parse_args(["--workers", "5"]).workers == 5


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        pytest.param(["--workers", "0"], {}, "must be above 0", id="no workers"),
        pytest.param(["--workers", "1.5"], {}, "invalid count value", id="half a worker"),
        pytest.param(["--poll-seconds", "0"], {}, "must be above 0", id="no time"),
        pytest.param(["--poll-seconds", "nan"], {}, "must be above 0", id="no number"),
        pytest.param(["--settle-seconds", "-1"], {}, "must not be negative", id="less than nothing"),
        pytest.param([], {"BERTH_WORKERS": "0"}, "must be above 0", id="a variable is judged like its flag"),
        pytest.param([], {"BERTH_DRY_RUN": "maybe"}, "true or false, not 'maybe'", id="neither yes nor no"),
        pytest.param([], {"BERTH_LOG_LEVEL": "loud"}, "one of debug, info", id="no such choice"),
    ],
)
def test_what_means_nothing_ends_the_program_with_its_reason(
    arguments: list[str], environment: dict[str, str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        front(**environment).parse_args(arguments)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_the_help_tells_the_default() -> None:
    assert "between two looks (default 2.0)" in front().format_help()
