"""Ctrl-C where Python loses it: the program ends all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PRELUDE = """
import signal, sys, threading, time, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)
from generator import interrupts
interrupts.GRACE_SECONDS = 1.5
interrupts.arrange()
"""
CASES = {
    "in a callback, which drops exceptions": """
class Thing: pass
def waits(_):
    print('up', flush=True)
    time.sleep(30)
thing = Thing()
kept = weakref.ref(thing, waits)
del thing
time.sleep(60)
""",
    "where somebody catches everything": """
print('up', flush=True)
while True:
    try:
        time.sleep(30)
    except BaseException:
        pass
""",
    "while a lock is waited for that nobody gives back": """
print('up', flush=True)
lock = threading.Lock(); lock.acquire()
try:
    lock.acquire()
finally:
    lock.acquire()
""",
}


@pytest.mark.parametrize("presses", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("case", CASES)
def test_it_ends(case: str, presses: int) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + CASES[case]],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert program.stdout is not None
    program.stdout.readline()
    time.sleep(0.2)
    for _ in range(presses):
        program.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, said = program.communicate(timeout=20)
    assert (program.returncode, said) == (130, "interrupted\n")


def test_a_program_that_is_started_deaf_stays_deaf() -> None:
    script = "import signal; signal.signal(2, signal.SIG_IGN)\n" + PRELUDE.replace(
        "signal.signal(signal.SIGINT, signal.default_int_handler)", ""
    )
    done = subprocess.run(
        [sys.executable, "-c", script + "signal.raise_signal(2); print('still here')"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.stdout == "still here\n"
