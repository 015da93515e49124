"""A volume without room from the first byte on, and what a hub may answer at worst."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Never

import pytest

from serving.weights import commands, hub, leases
from serving.weights.leases import Timing

DAY = 24 * 3600


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names fit, contents do not, as on a real file system without room."""

    def pwrite(*_: object) -> Never:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)


def _work(folder: Path) -> int:
    with leases.held(folder / ".lock", timing=Timing(), done=lambda: False, waiting=print):
        return 0


@pytest.mark.usefixtures("full")
def test_a_full_volume_leaves_no_lease_that_nobody_holds(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="No space"):
        _work(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.usefixtures("full")
def test_a_full_volume_is_told_as_such_whatever_was_written_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands._told(lambda: _work(tmp_path)) == 73
    assert "No space left" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.usefixtures("full")
def test_a_full_node_has_its_reason_on_stderr_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTH_TERMINATION_LOG", "/dev/full")
    assert commands._told(lambda: _work(tmp_path)) == 73
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param("7", 7.0, id="seconds"),
        pytest.param(str(DAY), 300.0, id="a day"),
        pytest.param("9" * 5000, 300.0, id="for ever"),
        pytest.param("Fri, 31 Dec 9999 23:59:59 GMT", 300.0, id="a date that is far"),
        pytest.param("Mon, 01 Jan 2024 00:00:00 GMT", 0.0, id="a date that is over"),
        pytest.param("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None, id="a year beyond all numbers"),
        pytest.param("soon", None, id="a word"),
    ],
)
def test_a_hub_may_ask_for_minutes_and_not_for_days(header: str | None, seconds: float | None) -> None:
    assert hub._retry_after(header) == seconds


@pytest.mark.parametrize(
    ("header", "size"),
    [
        pytest.param("123", 123, id="bytes"),
        pytest.param("9" * 5000, None, id="more than there are"),
        pytest.param("-1", None, id="less than none"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_hub_may_tell_a_size_or_none(header: str, size: int | None) -> None:
    assert hub._bytes(header) == size
