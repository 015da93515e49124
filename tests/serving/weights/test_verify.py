"""On a shared volume one pod hashes, and the others find its stamp."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from serving.weights import checking, stamps, verifying
from serving.weights.errors import MissingWeights
from serving.weights.leases import Timing
from serving.weights.stamps import State
from tests.serving.weights.conftest import DATA, SHA256

QUICK = Timing(heartbeat=0.05, stale=2, settle=0.05, poll=0.02)


@pytest.fixture
def slowly(hashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes a moment, in which others arrive."""
    counted = checking.hash_file

    def slow(path: Path, progress: checking.Progress | None = None) -> str:
        time.sleep(0.3)
        return counted(path, progress)

    monkeypatch.setattr(checking, "hash_file", slow)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.mark.usefixtures("slowly")
def test_of_many_pods_one_hashes(model: Path, hashed: list[str], said: list[str]) -> None:
    found: list[State] = []

    def pod() -> None:
        found.append(verifying.verify(model, SHA256, said.append, QUICK).state)

    pods = [threading.Thread(target=pod) for _ in range(6)]
    for one in pods:
        one.start()
    for one in pods:
        one.join(20)
    assert found == [State.PINNED] * 6
    assert hashed == ["m.gguf"]
    assert sorted(path.name for path in model.parent.iterdir()) == ["m.gguf", "m.gguf.berth.json"]


def test_a_pod_that_died_while_it_hashed_keeps_nobody_waiting(model: Path, said: list[str]) -> None:
    lock = model.with_name(".m.gguf.lock")
    script = (
        "import sys, time; from pathlib import Path; from serving.weights import leases\n"
        "timing = leases.Timing(heartbeat=0.05)\n"
        "with leases.held(Path(sys.argv[1]), timing=timing, done=lambda: False, waiting=print):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, lock], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
    began = time.monotonic()
    assert verifying.verify(model, SHA256, said.append, QUICK).state is State.PINNED
    assert time.monotonic() - began < 10


def test_the_wrong_verdict_is_shared_too(model: Path, hashed: list[str], said: list[str]) -> None:
    for _ in range(2):
        assert verifying.verify(model, "0" * 64, said.append, QUICK).state is State.WRONG
    assert hashed == ["m.gguf"]


def test_without_a_sha256_nothing_is_written(model: Path, hashed: list[str], said: list[str]) -> None:
    assert verifying.verify(model, None, said.append, QUICK).state is State.UNPINNED
    assert hashed == []
    assert [path.name for path in model.parent.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_volume_that_takes_no_stamp_is_told_and_the_file_is_judged(
    model: Path, hashed: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777, **more: int) -> int:
        if str(path).endswith(".lock"):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", refuse)
    assert verifying.verify(model, SHA256, said.append, QUICK).state is State.PINNED
    assert hashed == ["m.gguf"]
    (told,) = said
    assert os.strerror(code) in told
    assert "every pod hashes m.gguf anew" in told


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="NOT TESTED: no setpriv")
def test_a_folder_that_belongs_to_somebody_else_is_such_a_volume() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        model = Path(folder) / "m.gguf"
        model.write_bytes(DATA)
        model.chmod(0o444)
        model.parent.chmod(0o555)
        done = verify_as_nobody(model)
        model.parent.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "Permission denied, so no stamp can stand there" in done.stderr
    assert done.stdout.startswith("Pinned: ")


def verify_as_nobody(model: Path) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*drop, sys.executable, "-m", "serving", "verify", "--model", model, "--sha256", SHA256],
        capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def test_a_file_that_is_not_there_waits_for_nobody(model: Path, said: list[str]) -> None:
    with pytest.raises(MissingWeights, match=r"there is no .*n\.gguf"):
        verifying.verify(model.with_name("n.gguf"), SHA256, said.append, QUICK)
    assert stamps.read(model) is None
