"""API keys from a folder and what they may use."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.keys import ANONYMOUS, InvalidKey, Key, KeyRing, parse
from serving.limits import Limits
from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _status(ring: KeyRing, **headers: str) -> int | str:
    try:
        return ring.identify([(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]).name
    except Refusal as refusal:
        return refusal.status


def test_without_keys_everybody_may_ask(tmp_path: Path) -> None:
    assert KeyRing(None).identify([]) is ANONYMOUS
    assert KeyRing(tmp_path / "absent").identify([]) is ANONYMOUS


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"authorization": "Bearer s3cret"}, id="OpenAI's clients send a bearer token"),
        pytest.param({"authorization": "bearer  s3cret "}, id="in any case, with blanks"),
        pytest.param({"x_api_key": "s3cret"}, id="Anthropic's clients send x-api-key"),
        pytest.param({"api_key": "s3cret"}, id="Azure's clients send api-key"),
    ],
)
def test_a_key_is_known_by_its_file_name(tmp_path: Path, header: dict[str, str]) -> None:
    (tmp_path / "team-a").write_text("s3cret\n")
    (tmp_path / "team-b").write_text("other")
    assert _status(KeyRing(tmp_path), **header) == "team-a"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer wrong"}, id="a wrong one"),
        pytest.param({"authorization": "Basic s3cret"}, id="another scheme"),
        pytest.param({"x_api_key": ""}, id="an empty one"),
        pytest.param({"authorization": "Bearer s3cre"}, id="the start of one"),
    ],
)
def test_a_request_without_a_valid_key_gets_401(tmp_path: Path, header: dict[str, str]) -> None:
    (tmp_path / "team-a").write_text("s3cret\n")
    assert _status(KeyRing(tmp_path), **header) == 401


def test_keys_change_without_a_restart_as_a_secret_volume_changes(tmp_path: Path) -> None:
    def publish(version: str, **keys: str) -> None:
        (tmp_path / version).mkdir()
        for name, text in keys.items():
            (tmp_path / version / name).write_text(text)
            if not (tmp_path / name).is_symlink():
                (tmp_path / name).symlink_to(f"..data/{name}")
        (tmp_path / "..tmp").symlink_to(version)
        (tmp_path / "..tmp").rename(tmp_path / "..data")

    publish("..one", old="first")
    ring = KeyRing(tmp_path)
    publish("..two", old="first", new="second")
    ring.refresh()
    assert (_status(ring, x_api_key="first"), _status(ring, x_api_key="second")) == ("old", "new")
    publish("..three", new="second")
    ring.refresh()
    assert (_status(ring, x_api_key="first"), _status(ring, x_api_key="second")) == (401, "new")


def test_a_folder_that_cannot_be_read_for_a_while_ends_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old").write_text("first")
    ring = KeyRing(tmp_path)
    iterdir = Path.iterdir

    def away(self: Path) -> Iterator[Path]:
        monkeypatch.setattr(Path, "iterdir", iterdir)
        raise OSError(errno.ESTALE, "Stale file handle")

    async def scenario() -> None:
        watching = asyncio.create_task(ring.watch())
        await asyncio.wait({watching}, timeout=0.1)
        watching.cancel()

    monkeypatch.setattr("serving.keys._PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(Path, "iterdir", away)
    (tmp_path / "old").rename(tmp_path / "new")
    asyncio.run(scenario())
    assert "Stale file handle" in caplog.text
    assert _status(ring, x_api_key="first") == "new"


def test_a_secret_that_vanishes_locks_the_api(tmp_path: Path) -> None:
    (tmp_path / "team-a").write_text("s3cret")
    ring = KeyRing(tmp_path)
    (tmp_path / "team-a").unlink()
    ring.refresh()
    assert _status(ring, x_api_key="s3cret") == 401
    assert _status(ring) == 401


def test_only_keys_that_cannot_be_read_lock_the_api_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "team-a").write_text("s3cret\nrequests: many")
    ring = KeyRing(tmp_path)
    assert _status(ring) == 401
    assert "team-a: a line after the key" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_key_may_carry_its_limits() -> None:
    key = parse("a", b"s3cret\n\nrequests-per-minute: 5\ntokens-per-minute: 700\n")
    assert (key.requests_per_minute, key.tokens_per_minute) == (5, 700)
    assert "s3cret" not in repr(key)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n \n", id="blanks"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"k\nrequests-per-minute: -1", id="a negative limit"),
        pytest.param(b"k\nrequests-per-minute: 0", id="a limit of zero"),
        pytest.param(b"k\nrequests-per-minute: " + b"9" * 5000, id="a limit beyond all numbers"),
        pytest.param(b"k\nanother key", id="a second key"),
    ],
)
def test_a_file_that_is_no_key_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidKey):
        parse("a", content)


def test_requests_of_a_minute_are_counted_and_come_back_evenly() -> None:
    clock = Clock()
    limits, key = Limits(requests_per_minute=2, clock=clock), Key("a")
    limits.check(key)
    limits.check(key)
    with pytest.raises(Refusal) as caught:
        limits.check(key)
    assert caught.value.status == 429
    assert caught.value.retry_after == pytest.approx(30)
    clock.now += 30
    limits.check(key)


def test_tokens_put_a_key_into_debt_that_time_pays() -> None:
    clock = Clock()
    limits, key = Limits(tokens_per_minute=100, clock=clock), Key("a")
    limits.check(key)
    limits.spend(key, 250)
    with pytest.raises(Refusal, match="100 tokens per minute") as caught:
        limits.check(key)
    assert caught.value.retry_after == pytest.approx(151 * 60 / 100)
    clock.now += 91
    limits.check(key)


def test_limits_of_one_key_are_no_limits_of_another() -> None:
    limits = Limits(requests_per_minute=1, clock=Clock())
    limits.check(Key("a"))
    limits.check(Key("b"))
    limits.check(Key("c", requests_per_minute=2))
    limits.check(Key("c", requests_per_minute=2))
    with pytest.raises(Refusal):
        limits.check(Key("a"))


def test_without_limits_nothing_is_counted() -> None:
    limits = Limits()
    for _ in range(100):
        limits.check(ANONYMOUS)
    limits.spend(ANONYMOUS, 10**9)
    limits.check(ANONYMOUS)
