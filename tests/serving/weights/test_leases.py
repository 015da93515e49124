"""Several pods on one volume: real processes, killed and stopped, download once."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from serving import weights
from serving.weights import leases
from serving.weights.errors import LeaseLost
from serving.weights.leases import Timing
from serving.weights.stamps import State
from tests.serving.weights.conftest import COMMIT, content

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.weights.conftest import FakeHub

MIB = 2**20
NAME = "m.gguf"
SIZE = 4 * MIB
TIMING = Timing(heartbeat=0.05, stale=0.4, settle=0.1, poll=0.02)


@pytest.fixture
def pod(
    hub: FakeHub, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Start the init container of one more pod that mounts the volume."""
    hub.files[NAME] = content(SIZE)

    def run(**environment: str) -> subprocess.Popen[str]:
        return start(
            "fetch", "--repository", "org/models", "--revision", COMMIT, "--file", NAME,
            "--sha256", hub.sha256(NAME), "--size", SIZE, "--to", tmp_path / "models",
            HF_ENDPOINT=hub.hub, **environment,
        )  # fmt: skip

    return run


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "models"


def until(happens: Callable[[], bool]) -> None:
    """Wait for something that has to come."""
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> str:
    """The log of a process that ended well."""
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    return log


def test_of_many_pods_one_downloads(
    hub: FakeHub, pod: Callable[..., subprocess.Popen[str]], volume: Path
) -> None:
    hub.delay = 0.01
    logs = [ended(process) for process in [pod() for _ in range(4)]]
    assert (len(hub.gets), hub.sent) == (1, SIZE)
    assert sum("downloading from org/models" in log for log in logs) == 1
    assert all(f"{NAME}: Pinned" in log for log in logs)
    assert sorted(path.name for path in volume.iterdir()) == [NAME, f"{NAME}.berth.json"]


def test_when_the_pod_that_downloads_is_killed_another_goes_on_at_once(
    hub: FakeHub, pod: Callable[..., subprocess.Popen[str]], volume: Path
) -> None:
    hub.delay = 0.05
    first = pod(STALE="600")
    until(lambda: hub.sent > MIB)
    second = pod(STALE="600")
    until(lambda: hub.heads == 2)
    first.kill()
    hub.delay = 0
    assert "are here already and are read again" in ended(second)
    assert len(hub.gets) == 2
    assert weights.check(volume / NAME, hub.sha256(NAME)).state is State.PINNED


def test_a_pod_that_is_told_to_end_leaves_its_lease_and_what_it_has(
    hub: FakeHub, pod: Callable[..., subprocess.Popen[str]], volume: Path
) -> None:
    hub.delay = 0.05
    first = pod()
    until(lambda: hub.sent > MIB)
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 128 + signal.SIGTERM
    assert sorted(path.name for path in volume.iterdir()) == [f".{NAME}.partial", f".{NAME}.partial.json"]


def test_a_pod_that_froze_loses_the_lease_and_does_no_harm_when_it_wakes(
    hub: FakeHub, pod: Callable[..., subprocess.Popen[str]], volume: Path
) -> None:
    hub.delay = 0.05
    first = pod()
    until(lambda: hub.sent > MIB)
    first.send_signal(signal.SIGSTOP)
    hub.delay = 0
    second = pod()
    assert "downloading from org/models" in ended(second)
    first.send_signal(signal.SIGCONT)
    assert "took the download over" in ended(first)
    assert weights.check(volume / NAME, hub.sha256(NAME)).state is State.PINNED
    assert weights.check(volume / NAME).sha256 == hub.sha256(NAME)


def foreign(path: Path, beat: int) -> None:
    """The lease of a pod on another machine."""
    record = {"owner": "other", "kernel": "other", "host": "pod-7", "pid": 1, "locked": True, "beat": beat}
    path.write_text(json.dumps(record).ljust(512))


def test_silence_of_another_machine_is_believed_after_a_while(tmp_path: Path) -> None:
    path, told = tmp_path / "lock", list[str]()
    foreign(path, 3)
    begin = time.monotonic()
    with leases.held(path, timing=TIMING, done=lambda: False, waiting=told.append) as lease:
        assert lease is not None
        assert time.monotonic() - begin > TIMING.stale
    assert told[0] == "pod-7"
    assert not path.exists()


def test_a_heart_that_beats_is_waited_for_however_long(tmp_path: Path) -> None:
    path, end = tmp_path / "lock", threading.Event()

    def beats() -> None:
        beat = 0
        while not end.wait(0.05):
            beat += 1
            foreign(path, beat)

    foreign(path, 0)
    heart = threading.Thread(target=beats)
    heart.start()
    finish = time.monotonic() + 3 * TIMING.stale
    try:
        with leases.held(
            path, timing=TIMING, done=lambda: time.monotonic() > finish, waiting=lambda _: None
        ) as lease:
            assert lease is None
    finally:
        end.set()
        heart.join()


def test_of_many_that_want_a_dead_lease_one_gets_it(tmp_path: Path) -> None:
    path, inside, most, got = tmp_path / "lock", list[int](), list[int](), list[int]()
    foreign(path, 3)

    def work(number: int) -> None:
        with leases.held(path, timing=TIMING, done=lambda: False, waiting=lambda _: None) as lease:
            assert lease is not None
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.03)
            lease.confirm()
            inside.remove(number)
            got.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(got) == list(range(6))
    assert set(most) == {1}


def test_of_two_machines_that_take_the_same_dead_lease_the_last_word_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rivals, real = tmp_path / "lock", [9], time.sleep
    foreign(path, 3)

    def sleep(seconds: float) -> None:
        if seconds == TIMING.settle and rivals:
            foreign(path, rivals.pop())
        real(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    begin = time.monotonic()
    with leases.held(path, timing=TIMING, done=lambda: False, waiting=lambda _: None) as lease:
        assert lease is not None
        assert time.monotonic() - begin > 2 * TIMING.stale
    assert rivals == []


def test_a_lease_that_another_has_taken_is_noticed_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with leases.held(path, timing=TIMING, done=lambda: False, waiting=lambda _: None) as lease:
        assert lease is not None
        foreign(path, 1)
        until(lambda: lease._lost.is_set())
        with pytest.raises(LeaseLost, match="another pod took the download over"):
            lease.check()
    assert json.loads(path.read_text())["owner"] == "other"


@pytest.mark.parametrize("rest", [b"", b"{", b"[]"], ids=["empty", "half a record", "something else"])
def test_a_broken_lease_does_not_block_for_ever(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "lock"
    path.write_bytes(rest)
    with leases.held(path, timing=TIMING, done=lambda: False, waiting=lambda _: None) as lease:
        assert lease is not None
