"""An adapter is served only if it is what the plan counted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serving.weights import adapters
from serving.weights.adapters import Adapter
from serving.weights.errors import MissingWeights, TooLarge, WeightsError, WrongHash
from serving.weights.stamps import State

CONTENT = b"GGUF" + bytes(96)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sql.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/a/b.gguf:12", Adapter(Path("/a/b.gguf"), 12), id="a size"),
        pytest.param(f"/a/b.gguf:12:{'A' * 64}", Adapter(Path("/a/b.gguf"), 12, "a" * 64), id="a hash too"),
    ],
)
def test_what_the_charts_write_is_read(text: str, expected: Adapter) -> None:
    assert adapters.parse(text) == expected


@pytest.mark.parametrize("text", ["/a/b.gguf", "/a/b.bin:12", "/a/b.gguf:many", "/a/b.gguf:12:abc"])
def test_anything_else_is_no_adapter(text: str) -> None:
    with pytest.raises(ValueError, match="is not FILE"):
        adapters.parse(text)


@pytest.mark.parametrize(
    ("size", "sha256", "state"),
    [
        pytest.param(100, None, State.UNPINNED, id="as large as planned"),
        pytest.param(200, None, State.UNPINNED, id="smaller than planned"),
        pytest.param(100, DIGEST, State.PINNED, id="what was promised"),
    ],
)
def test_a_good_adapter_may_be_served(file: Path, size: int, sha256: str | None, state: State) -> None:
    assert [one.state for one in adapters.check([Adapter(file, size, sha256)])] == [state]


@pytest.mark.parametrize(
    ("size", "sha256", "error", "reason"),
    [
        pytest.param(99, None, TooLarge, "has 100 bytes, and the plan counted 99", id="one byte too many"),
        pytest.param(100, "0" * 64, WrongHash, "not what was promised", id="another content"),
    ],
)
def test_a_bad_adapter_is_refused(
    file: Path, size: int, sha256: str | None, error: type[WeightsError], reason: str
) -> None:
    with pytest.raises(error, match=reason) as caught:
        adapters.check([Adapter(file, size, sha256)])
    assert caught.value.exit_code == 65


def test_an_adapter_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"sql\.gguf"):
        adapters.check([Adapter(tmp_path / "sql.gguf", 1)])
