"""What is served beside the model is what the plan counted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serving.weights import extras
from serving.weights.errors import MissingWeights, TooLarge, WeightsError, WrongHash
from serving.weights.extras import Extra, Kind
from serving.weights.stamps import State

CONTENT = b"GGUF" + bytes(96)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sql.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("text", "size", "sha256"),
    [
        pytest.param("/a/b.gguf:12", 12, None, id="a size"),
        pytest.param(f"/a/b.gguf:12:{'A' * 64}", 12, "a" * 64, id="a hash too"),
    ],
)
def test_what_the_charts_write_is_read(kind: Kind, text: str, size: int, sha256: str | None) -> None:
    assert extras.parse(kind, text) == Extra(kind, Path("/a/b.gguf"), size, sha256)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("text", ["/a/b.bin:12", "/a/b.gguf:many", "/a/b.gguf:12:abc"])
def test_anything_else_is_none(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match="is not FILE"):
        extras.parse(kind, text)


def test_only_a_projector_may_come_without_a_plan() -> None:
    assert extras.parse(Kind.PROJECTOR, "b.gguf") == Extra(Kind.PROJECTOR, Path("b.gguf"))
    with pytest.raises(ValueError, match="is not FILE"):
        extras.parse(Kind.ADAPTER, "b.gguf")


TAG = "r.example/a:1"


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("size", "sha256", "image", "state"),
    [
        pytest.param(100, None, None, State.UNPINNED, id="as large as planned"),
        pytest.param(200, None, None, State.UNPINNED, id="smaller than planned"),
        pytest.param(None, None, None, State.UNPINNED, id="of an unknown size"),
        pytest.param(100, DIGEST, None, State.PINNED, id="what was promised"),
        pytest.param(100, None, f"{TAG}@sha256:{'0' * 64}", State.PINNED, id="of an image with a digest"),
        pytest.param(100, None, TAG, State.UNPINNED, id="of an image without one"),
    ],
)
def test_a_good_file_may_be_served(
    file: Path, kind: Kind, size: int | None, sha256: str | None, image: str | None, state: State
) -> None:
    assert extras.check(Extra(kind, file, size, sha256).of(image)).state is state


@pytest.mark.parametrize(
    ("kind", "size", "sha256", "error", "reason"),
    [
        pytest.param(
            Kind.ADAPTER, 99, None, TooLarge, "the adapter .* has 100 bytes, and the plan counted 99",
            id="one byte too many",
        ),
        pytest.param(
            Kind.PROJECTOR, 99, None, TooLarge, "the projector .* the model's entry", id="a large projector"
        ),
        pytest.param(Kind.ADAPTER, 100, "0" * 64, WrongHash, "not what was promised", id="another content"),
        pytest.param(Kind.PROJECTOR, 100, "0" * 64, WrongHash, "not what", id="another projector"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(
    file: Path, kind: Kind, size: int, sha256: str | None, error: type[WeightsError], reason: str
) -> None:
    with pytest.raises(error, match=reason) as caught:
        extras.check(Extra(kind, file, size, sha256))
    assert caught.value.exit_code == 65


def test_a_digest_in_an_images_name_does_not_hide_another_content(file: Path) -> None:
    with pytest.raises(WrongHash):
        extras.check(Extra(Kind.ADAPTER, file, 100, "0" * 64, f"{TAG}@sha256:{'0' * 64}"))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"sql\.gguf"):
        extras.check(Extra(Kind.ADAPTER, tmp_path / "sql.gguf", 1))
