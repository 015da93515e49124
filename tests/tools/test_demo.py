"""The demo runs from its first step to its last, at a terminal and without one."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tools import demo_engine

ROOT = Path(__file__).resolve().parents[2]
ENGINE = pytest.mark.skipif(not demo_engine.is_there(), reason="NOT TESTED: no engine; build it: make engine")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "tools.demo", "--folder", str(folder / "fleet")]


def environment(**more: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if key not in ("ENGINE", "FORCE_COLOR")}
    return {**plain, **more}


def run(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder),
        cwd=ROOT,
        env=environment(TMPDIR=str(folder), **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def strangers(folder: Path) -> list[str]:
    """Processes that still run with something of the demo's on their command line or as their folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = str((process / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in line or place.startswith(str(folder)):
            found.append(line)
    return found


def test_without_the_engine_the_rest_runs_and_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, ENGINE="no")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "falcon-40b Q4_K_M",
        "nearest are falcon-40b",
        "taken: it fits",
        "refused: Workspace",
        "kind: NodeClaim",
    ):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    if not demo_engine.is_there():
        assert "left out: ENGINE=no" in done.stdout
        assert "answer:" not in done.stdout
    log = subprocess.run(
        ["git", "log", "--format=%s"], cwd=tmp_path / "fleet", capture_output=True, text=True, check=True
    )
    assert log.stdout.splitlines() == ["A larger model", "Two models"]
    assert [path.name for path in tmp_path.iterdir()] == ["fleet"]
    assert strangers(tmp_path) == []


@ENGINE
def test_without_a_terminal_it_ends_with_the_models_answer(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-3:]
    assert [line for line in last if line.startswith("answer: ") and len(line) > len("answer: ")]
    assert strangers(tmp_path) == []


@ENGINE
def test_at_a_terminal_it_stays_until_ctrl_c_and_leaves_nothing_behind(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command(tmp_path),
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path), TERM="xterm"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    try:
        text = _until(leader, process, b"until Ctrl-C", 200)
        assert "\x1b[" in text
        found = re.search(r"(http://127\.0\.0\.1:\d+)/ui", text)
        assert found is not None
        with urllib.request.urlopen(f"{found[1]}/ui", timeout=10) as page:
            assert b"<html" in page.read()
        os.killpg(process.pid, signal.SIGINT)
        text = _until(leader, process, b"nothing is left running", 60)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(leader)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{found[1]}/healthz", timeout=5)
    assert [path.name for path in tmp_path.iterdir()] == ["fleet"]
    assert strangers(tmp_path) == []


def _until(terminal: int, process: subprocess.Popen[bytes], words: bytes, seconds: float) -> str:
    """Read until the words appear; fail with all that was read."""
    text, deadline = b"", time.monotonic() + seconds
    while words not in text and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                text += os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    assert words in text, text.decode(errors="replace")
    return text.decode(errors="replace")
