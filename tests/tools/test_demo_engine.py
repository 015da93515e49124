"""The demo goes on where the engine cannot be built, and says why."""

from __future__ import annotations

import io
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tools import demo_engine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setattr(demo_engine, "is_there", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    for name in ("ENGINE", "ENGINE_MINUTES"):
        monkeypatch.delenv(name, raising=False)
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("word", ["no", "NO", "0", "off"])
def test_a_person_may_leave_it_out(word: str, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE", word)
    assert demo_engine.provide(console, False, ["false"]) == "ENGINE=no leaves the engine's build out"


def test_without_a_compiler_nothing_is_begun(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    reason = demo_engine.provide(console, False, ["false"])
    assert reason is not None
    assert "apt-get install g++" in reason
    assert said(console) == ""


def test_how_long_it_takes_is_said_before_it_begins(console: Console) -> None:
    assert demo_engine.provide(console, True, ["true"]) is None
    assert "some 15 minutes" in said(console)
    assert "ENGINE=no" in said(console)
    assert said(console).rstrip().endswith("$ true")


def test_a_build_that_fails_is_a_reason_and_no_error(console: Console) -> None:
    assert demo_engine.provide(console, False, ["false"]) == (
        "the engine could not be built, as said above; try: false"
    )


def test_an_engine_that_is_there_is_not_built_again(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_engine, "is_there", lambda: True)
    assert demo_engine.provide(console, False, ["false"]) is None
    assert said(console) == ""


def test_a_build_that_nobody_watches_has_an_end_with_all_its_compilers(
    console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENGINE_MINUTES", "0.03")
    alive = tmp_path / "alive"
    child = (
        "import time, pathlib\n"
        f"while True: pathlib.Path({str(alive)!r}).write_text(str(time.time())); time.sleep(0.02)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    reason = demo_engine.provide(console, False, [sys.executable, "-c", parent])
    assert reason == "the build was not ready after 0.03 minutes; `make engine` goes on where it ended"
    last = alive.read_text()
    time.sleep(0.2)
    assert alive.read_text() == last


def test_ctrl_c_leaves_the_build_out(console: Console) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    began = time.monotonic()
    assert demo_engine.provide(console, True, ["sleep", "60"]) == (
        "the build was stopped; `make engine` goes on where it ended"
    )
    assert time.monotonic() - began < 20


def test_the_make_that_started_us_does_not_reach_the_build(
    console: Console, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "--question")
    seen = tmp_path / "seen"
    script = (
        f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(os.environ.get('MAKEFLAGS', 'none'))"
    )
    assert demo_engine.provide(console, True, [sys.executable, "-c", script]) is None
    assert seen.read_text() == "none"
