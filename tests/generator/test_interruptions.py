"""What is left when a command can't go on: Ctrl-C, a full disk, a reader that is gone."""

from __future__ import annotations

import errno
import io
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from generator import cli, files, scaffold, store
from generator.lockfile import Lock

SPEC = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: NAME}
resource:
  instanceType: Standard_NC12s_v3
  labelSelector:
    matchLabels: {apps: NAME}
inference:
  preset: {name: falcon-7b}
"""
BERTH = [sys.executable, "-m", "generator"]


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0], ids="after {} s".format)
def test_ctrl_c_says_one_word_and_leaves_no_half(tmp_path: Path, seconds: float) -> None:
    specs = "---\n".join(SPEC.replace("NAME", f"w{number}") for number in range(1500))
    (tmp_path / "many.yaml").write_text(specs)
    # As a terminal does: the signal reaches the whole process group, Node as well. A shell that started the
    # tests in the background has Ctrl-C ignored, and so would the program.
    command = subprocess.Popen(
        [sys.executable, "-c", "import signal, sys; signal.signal(2, signal.default_int_handler); "
         "print('up', flush=True); from generator.__main__ import main; main()",
         "render", str(tmp_path / "many.yaml"), "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert command.stdout is not None
    command.stdout.readline()
    time.sleep(seconds)
    os.killpg(command.pid, signal.SIGINT)
    _, said = command.communicate(timeout=60)
    talk = [line for line in said.splitlines() if ": warning: " not in line]
    assert (command.returncode, talk) == (130, ["interrupted"])
    assert not list(tmp_path.glob("out/*/*.yaml"))
    assert not (tmp_path / "out" / store.STAGE).exists()


class Full(io.StringIO):
    """A file on a disk that is full: the system tells no name."""

    def write(self, text: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files named berth.yaml find no room."""
    real = Path.open

    def opened(path: Path, mode: str = "r", **options: Any) -> Any:
        found = real(path, mode, **options)
        if path.parts[-1] != "berth.yaml" or path.parts[-2] == "workflows" or mode != "x":
            return found
        found.close()
        return Full()

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_named_with_the_file_and_the_next_run_writes_it_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.run(["init", str(tmp_path)]) == 2
    assert f"error: {tmp_path}/berth.yaml: No space left on device\n" in capsys.readouterr().err
    assert not (tmp_path / "berth.yaml").exists()
    monkeypatch.undo()
    assert cli.run(["init", str(tmp_path)]) == 0
    assert (tmp_path / "berth.yaml").read_text() == dict(scaffold.files())["berth.yaml"]


@pytest.mark.usefixtures("full")
def test_a_full_disk_leaves_no_empty_fleet_file_of_an_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(SPEC.replace("NAME", "a"))
    assert cli.run(["import", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "fleet")]) == 2
    assert "fleet/berth.yaml: No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "fleet" / "berth.yaml").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="NOT TESTED: there is no /dev/full here")
def test_a_full_disk_below_a_render_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STAGE", "stage")
    real = open
    monkeypatch.setattr("builtins.open", lambda path, mode="r", **more: real(
        "/dev/full" if str(path).endswith("x.yaml") else path, mode, **more))  # fmt: skip
    with pytest.raises(OSError, match="No space left") as told:
        store.apply(tmp_path, store.Update(Lock("1"), {"one": {"x.yaml": b"a"}}), Lock("1"))
    assert told.value.filename == f"{tmp_path}/stage/one/x.yaml"


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    place = tmp_path / "here"
    place.write_text("mine")
    with pytest.raises(FileExistsError):
        files.create(place, "theirs")
    assert place.read_text() == "mine"


@pytest.mark.parametrize("closing", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_streams_are_no_failure(tmp_path: Path, closing: str) -> None:
    (tmp_path / "a.yaml").write_text(SPEC.replace("NAME", "a"))
    script = f'"$@" plan a.yaml {closing}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *BERTH], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "FILE"],
        ["init", "FILE/below"],
        ["install", "--out", "FILE"],
        ["import", "SPEC", "--out", "FILE"],
    ],
    ids=" ".join,
)
def test_a_file_where_a_folder_must_be_is_named(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file, spec = tmp_path / "file", tmp_path / "spec.yaml"
    file.write_text("")
    spec.write_text(SPEC.replace("NAME", "a"))
    words = [one.replace("FILE", str(file)).replace("SPEC", str(spec)) for one in arguments]
    assert cli.run(words) == 2
    assert capsys.readouterr().err == f"error: {file}: it is a file; name a folder\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["install", "--out", "x", "--dry-run"], "--dry-run only means something with --remove",
                     id="a dry run of what writes files"),
        pytest.param(["install", "--out", "x", "--context", "a", "--dry-run"],
                     "--dry-run and --context only mean something with --remove", id="both"),
        pytest.param(["install", "--remove", "--out", "x"], "leave --out out", id="a folder to remove to"),
        pytest.param(["import", "x", "--context", "a"], "--context belongs to --cluster",
                     id="a context of files"),
    ],
)  # fmt: skip
def test_an_option_that_does_nothing_is_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_is_piped_is_utf_8_whatever_the_terminal_speaks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.yaml").write_text(SPEC.replace("NAME", "a"))
    done = subprocess.run(
        [*BERTH, "plan", "a.yaml"], cwd=tmp_path, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
             "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "1 × Standard_NC12s_v3" in done.stdout.decode()


def test_an_older_terminal_gets_question_marks_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SPEC.replace("NAME", "a"))
    master, terminal = pty.openpty()
    done = subprocess.run(
        [*BERTH, "plan", "a.yaml"], cwd=tmp_path, stdout=terminal, stderr=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
             "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(terminal)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "1 ? Standard_NC12s_v3" in shown
