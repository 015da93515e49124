"""The static program that copies weights out of an image, compiled and run for real."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.weights import commands
from tests.serving.weights.conftest import content

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).parents[3] / "serving" / "copy" / "copy.c"
MIB = 2**20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as the image's build makes it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("NOT TESTED, the copy program: no C compiler, `apt-get install gcc libc6-dev` brings one")
    target = tmp_path_factory.mktemp("copy") / "copy"
    command = [compiler, "-static", "-Os", "-Wall", "-Wextra", "-Werror", "-o", str(target), str(SOURCE)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def copy(program: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        # An empty environment and no libraries: all that an image of weights offers.
        return subprocess.run(
            [program, *map(str, arguments)], env={}, capture_output=True, text=True, check=False, timeout=30
        )

    return run


@pytest.fixture
def image(tmp_path: Path) -> list[Path]:
    """An image's root with a model in two parts."""
    folder = tmp_path / "image"
    folder.mkdir()
    made = [folder / f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    for seed, path in enumerate(made):
        path.write_bytes(content(5 * MIB + seed, seed))
        path.chmod(0o444)
    return made


def test_every_part_lies_in_the_folder_and_nothing_else(
    copy: Callable[..., subprocess.CompletedProcess[str]], image: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "deep" / "er"
    done = copy("--to", folder, *image)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in image
    }
    assert "m-00002-of-00002.gguf: 5 MiB copied" in done.stderr


def test_a_second_start_copies_only_what_is_not_whole(
    copy: Callable[..., subprocess.CompletedProcess[str]], image: list[Path], tmp_path: Path
) -> None:
    copy("--to", tmp_path, *image)
    first = tmp_path / image[0].name
    before = first.stat().st_ino
    (tmp_path / image[1].name).write_bytes(b"GGUF half")
    done = copy("--to", tmp_path, *image)
    assert "m-00001-of-00002.gguf: is here already" in done.stderr
    assert first.stat().st_ino == before
    assert (tmp_path / image[1].name).read_bytes() == image[1].read_bytes()


def test_killed_in_the_middle_it_leaves_nothing_under_the_final_name(
    program: Path, copy: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    source, folder = tmp_path / "m.gguf", tmp_path / "models"
    with source.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(2**31)
    with subprocess.Popen([program, "--to", folder, source], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not list(folder.glob(".copying-*")) and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
    assert [path.name for path in folder.iterdir()] == [".copying-m.gguf"]
    os.truncate(source, MIB)
    assert copy("--to", folder, source).returncode == 0
    assert [path.name for path in folder.iterdir()] == ["m.gguf"]


def test_what_the_image_lacks_is_told_before_anything_is_copied(
    copy: Callable[..., subprocess.CompletedProcess[str]], image: list[Path], tmp_path: Path
) -> None:
    done = copy("--to", tmp_path / "models", image[0], "/no/such.gguf")
    assert done.returncode == 66
    assert "error: the weights image has no /no/such.gguf" in done.stderr
    assert list((tmp_path / "models").iterdir()) == []


def test_a_volume_that_is_too_small_is_told(
    copy: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    source = tmp_path / "m.gguf"
    with source.open("wb") as file:
        file.truncate(2**43)
    done = copy("--to", tmp_path / "models", source)
    assert done.returncode == 73
    assert "8388608 MiB are needed" in done.stderr


def test_other_arguments_are_refused(copy: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert copy("--from", "x", "y").returncode == 64


def test_tools_leaves_the_program_where_another_container_can_run_it(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTH_COPY", str(program))
    target = tmp_path / "berth" / "copy"
    assert commands.tools(["--to", str(target)]) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert subprocess.run([target], check=False, stderr=subprocess.DEVNULL).returncode == 64
    assert [path.name for path in target.parent.iterdir()] == ["copy"]


def test_tools_without_the_program_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BERTH_COPY", str(tmp_path / "nothing"))
    assert commands.tools(["--to", str(tmp_path / "copy")]) == 1
    assert "cc -static -Os -o copy serving/copy/copy.c" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()
