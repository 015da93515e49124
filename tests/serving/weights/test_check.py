"""What the server is told of a file before it serves it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from serving import weights
from serving.weights import checking, commands, stamps
from serving.weights.errors import MissingWeights
from serving.weights.stamps import State
from tests.serving.weights.conftest import DATA, SHA256

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("sha256", "state"),
    [(SHA256, State.PINNED), (SHA256.upper(), State.PINNED), (None, State.UNPINNED), ("0" * 64, State.WRONG)],
    ids=["the right sha256", "in capitals", "no sha256", "another sha256"],
)
def test_the_verdict(model: Path, sha256: str | None, state: State) -> None:
    checked = weights.check(model, sha256)
    assert (checked.state, checked.size) == (state, len(DATA))


@pytest.mark.parametrize(
    ("image", "state"),
    [("r.example/m:1@sha256:" + "0" * 64, State.PINNED), ("r.example/m:1", State.UNPINNED)],
    ids=["a digest", "a tag alone"],
)
def test_an_image_pins_by_its_digest(model: Path, hashed: list[str], image: str, state: State) -> None:
    assert weights.check(model, image=image).state is state
    assert hashed == []


def test_a_wrong_file_is_described_with_both_hashes(model: Path) -> None:
    assert weights.check(model, "0" * 64).reason == (
        f"m.gguf is not what was promised: its sha256 is {SHA256}, and {'0' * 64} was named; it is not served"
    )


def test_a_file_is_hashed_once(model: Path, hashed: list[str]) -> None:
    for _ in range(3):
        assert weights.check(model, SHA256).state is State.PINNED
    assert weights.check(model, "0" * 64).state is State.WRONG
    assert hashed == ["m.gguf"]


def test_without_a_sha256_nothing_is_read(model: Path, hashed: list[str]) -> None:
    weights.check(model)
    assert hashed == []


def test_a_changed_file_is_hashed_again(model: Path, hashed: list[str]) -> None:
    weights.check(model, SHA256)
    model.write_bytes(DATA[:-1] + b"!")
    assert weights.check(model, SHA256).state is State.WRONG
    assert len(hashed) == 2


def test_a_copy_that_kept_its_time_is_hashed_again(model: Path, hashed: list[str]) -> None:
    weights.check(model, SHA256)
    found = model.stat()
    other = model.with_name("other")
    other.write_bytes(DATA[:-1] + b"!")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(model)
    assert weights.check(model, SHA256).state is State.WRONG


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 2}'], ids=repr)
def test_a_broken_stamp_is_no_stamp(model: Path, hashed: list[str], text: str) -> None:
    stamps.path_of(model).write_text(text)
    assert weights.check(model, SHA256).state is State.PINNED
    assert hashed == ["m.gguf"]


def test_a_read_only_volume_is_stamped_elsewhere(
    model: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stamps.replace

    def read_only(place: Path, data: dict[str, object]) -> None:
        if place.parent == model.parent:
            raise OSError(30, "Read-only file system", str(place))
        real(place, data)

    monkeypatch.setattr(stamps, "replace", read_only)
    for _ in range(2):
        assert weights.check(model, SHA256).state is State.PINNED
    assert hashed == ["m.gguf"]
    assert [path.name for path in model.parent.iterdir()] == ["m.gguf"]


def test_progress_tells_bytes_of_bytes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "CHUNK", 100_000)
    told: list[tuple[int, int]] = []
    weights.check(model, SHA256, progress=lambda done, size: told.append((done, size)))
    assert told == [(100_000, 300_000), (200_000, 300_000), (300_000, 300_000)]


def test_a_file_that_grows_is_not_judged(model: Path) -> None:
    def grow(done: int, size: int) -> None:
        with model.open("ab") as file:
            file.write(b"!")

    with pytest.raises(MissingWeights, match="is still being written"):
        weights.check(
            model, SHA256, progress=lambda done, size: grow(done, size) if done < size + 1 else None
        )


def test_a_volume_that_was_mounted_empty_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights) as missing:
        weights.check(tmp_path / "q4" / "m.gguf")
    assert str(missing.value).startswith(
        f"{tmp_path} is empty, so there is no m.gguf. If it is an image volume"
    )
    assert "weights.imageVolumes: false" in str(missing.value)


def test_another_name_lists_what_is_there(model: Path) -> None:
    with pytest.raises(MissingWeights, match=r"there is no .*/models/n\.gguf; .*/models holds m\.gguf"):
        weights.check(model.with_name("n.gguf"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"),
        (b"<html>sign in</html>", "no GGUF file: it begins with b'<html>si'"),
    ],
    ids=["an empty file", "a pointer", "a web page"],
)
def test_what_is_no_gguf_file_is_refused(model: Path, data: bytes, words: str) -> None:
    model.write_bytes(data)
    with pytest.raises(MissingWeights, match=words):
        weights.check(model, SHA256)


def test_a_missing_part_is_told_at_once(tmp_path: Path) -> None:
    first = tmp_path / "m-00001-of-00003.gguf"
    first.write_bytes(DATA)
    with pytest.raises(MissingWeights, match=r"m-00002-of-00003\.gguf"):
        weights.check(first, SHA256)


def test_verify_is_a_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.verify(["--model", str(model), "--sha256", SHA256]) == 0
    assert capsys.readouterr().out == f"Pinned: m.gguf is sha256:{SHA256}\n"
    assert commands.verify(["--model", str(model), "--sha256", "0" * 64]) == weights.EXIT_WRONG_HASH
    assert commands.verify(["--model", str(model.with_name("n.gguf"))]) == MissingWeights.exit_code
