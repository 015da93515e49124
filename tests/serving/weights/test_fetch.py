"""Downloads from a hub over real HTTP: resumed, verified, and honest about what went wrong."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from serving import weights
from serving.weights import commands, stamps
from serving.weights.download import Patience
from serving.weights.errors import GaveUp, MissingWeights, NoRoom, NotAllowed, WrongHash
from serving.weights.fetching import Fetch, Order, Wanted
from serving.weights.hub import Hub
from serving.weights.stamps import State
from tests.serving.weights.conftest import COMMIT, TOKEN, content

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.serving.weights.conftest import FakeHub

MIB = 2**20
NAME = "m.gguf"
QUICK = Patience(tries=3, first_pause=0.01)


class Outcome(NamedTuple):
    """A finished fetch."""

    stamps: list[stamps.Stamp]
    lines: list[str]


@pytest.fixture
def fetch(hub: FakeHub, tmp_path: Path) -> Callable[..., Outcome]:
    """Fetch into `tmp_path/models` with short pauses."""
    hub.files.setdefault(NAME, content(3 * MIB))

    def run(
        *names: str,
        sha256: str | None = None,
        repository: str = "org/models",
        revision: str | None = COMMIT,
        token: str | None = None,
        secret: str | None = None,
        read: float = 5,
    ) -> Outcome:
        lines: list[str] = []
        asked = names or (NAME,)
        wanted = tuple(Wanted(name, sha256 if name == asked[0] else None) for name in asked)
        client = Hub(repository, revision, endpoint=hub.hub, token=token, secret=secret, silence=read)
        order = Order(wanted, tmp_path / "models", sum(len(hub.files.get(name, b"")) for name in asked))
        return Outcome(Fetch(client, order, lines.append, patience=QUICK).run(), lines)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


def left(folder: Path) -> list[str]:
    """The folder's entries."""
    return sorted(path.name for path in folder.iterdir())


def test_a_pinned_file_lies_there_with_its_stamp_and_nothing_else(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    (stamp,) = fetch(sha256=hub.sha256(NAME)).stamps
    assert (folder / NAME).read_bytes() == hub.files[NAME]
    assert (stamp.state, stamp.sha256) == (State.PINNED, hub.sha256(NAME))
    assert stamp.source == f"org/models@{COMMIT}"
    assert left(folder) == [NAME, f"{NAME}.berth.json"]
    assert weights.check(folder / NAME, hub.sha256(NAME)).state is State.PINNED


def test_without_a_sha256_the_stamp_says_unpinned(fetch: Callable[..., Outcome], folder: Path) -> None:
    (stamp,) = fetch().stamps
    assert stamp.state is State.UNPINNED
    assert weights.check(folder / NAME).state is State.UNPINNED


def test_a_second_start_asks_the_hub_nothing(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    fetch(sha256=hub.sha256(NAME))
    asked = (hub.heads, len(hub.gets))
    fetch(sha256=hub.sha256(NAME))
    assert (hub.heads, len(hub.gets)) == asked


def test_a_break_in_the_middle_goes_on_from_there(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.breaks = [MIB, MIB // 2]
    (stamp,), lines = fetch(sha256=hub.sha256(NAME))
    assert stamp.state is State.PINNED
    assert hub.gets == ["all", f"bytes={MIB}-", f"bytes={MIB + MIB // 2}-"]
    assert hub.sent == len(hub.files[NAME])
    assert any("broke" in line and "try 2 of 3" in line for line in lines)


def test_a_new_start_goes_on_from_what_lies_there(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    hub.breaks = [MIB, 0, 0, 0]
    with pytest.raises(GaveUp, match="gave up after 3 tries that got no further"):
        fetch(sha256=hub.sha256(NAME))
    assert NAME not in left(folder)
    hub.breaks.clear()
    (stamp,), lines = fetch(sha256=hub.sha256(NAME))
    assert stamp.state is State.PINNED
    assert hub.sent == len(hub.files[NAME])
    assert "m.gguf: 1.0 MiB are here already and are read again" in lines


def test_what_lies_there_of_another_file_is_not_used(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.breaks = [MIB, 0, 0, 0]
    with pytest.raises(GaveUp):
        fetch()
    hub.breaks.clear()
    hub.files[NAME] = content(3 * MIB, seed=1)
    (stamp,) = fetch(sha256=hub.sha256(NAME)).stamps
    assert stamp.state is State.PINNED
    assert hub.gets[-1] == "all"


def test_a_server_that_cannot_continue_is_read_from_the_beginning(
    hub: FakeHub, fetch: Callable[..., Outcome]
) -> None:
    hub.ranges, hub.breaks = False, [MIB]
    (stamp,), lines = fetch(sha256=hub.sha256(NAME))
    assert stamp.state is State.PINNED
    assert hub.gets == ["all", f"bytes={MIB}-", "all"]
    assert any("cannot continue" in line for line in lines)


def test_breaks_that_bring_something_are_not_counted(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.files[NAME] = content(8 * MIB)
    hub.breaks = [MIB + 1] * 7
    assert fetch(sha256=hub.sha256(NAME)).stamps[0].state is State.PINNED


@pytest.mark.parametrize("status", [429, 500, 503, 403], ids="the content network answers {}".format)
def test_passing_answers_are_tried_again(hub: FakeHub, fetch: Callable[..., Outcome], status: int) -> None:
    hub.statuses = [status, status]
    (stamp,), lines = fetch(sha256=hub.sha256(NAME))
    assert stamp.state is State.PINNED
    assert sum(f"answered {status}" in line for line in lines) == 2


def test_silence_is_given_up_and_told(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.delay, hub.chunk = 0.5, 2**10
    with pytest.raises(GaveUp, match="was silent for too long"):
        fetch(read=0.1)


def test_slow_is_fine_as_long_as_something_comes(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.files[NAME] = content(MIB)
    hub.delay = 0.03
    assert fetch(sha256=hub.sha256(NAME), read=0.4).stamps[0].state is State.PINNED


def test_a_hub_that_is_not_there_is_told(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.hub = "http://127.0.0.1:9"
    with pytest.raises(GaveUp, match=r"127\.0\.0\.1:9 cannot be reached"):
        fetch()


def test_a_hash_that_the_hub_contradicts_costs_no_download(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    with pytest.raises(WrongHash, match="is not what was promised"):
        fetch(sha256="0" * 64)
    assert hub.gets == []
    assert NAME not in left(folder)


def test_a_wrong_hash_is_found_while_downloading_and_never_again(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    hub.tells_sha256 = False
    for _ in range(2):
        with pytest.raises(WrongHash, match=f"its sha256 is {hub.sha256(NAME)}, and {'0' * 64} was named"):
            fetch(sha256="0" * 64)
    assert hub.gets == ["all"]
    assert left(folder) == [f".{NAME}.wrong.json"]
    assert fetch(sha256=hub.sha256(NAME)).stamps[0].state is State.PINNED
    assert left(folder) == [NAME, f"{NAME}.berth.json"]


def test_a_transfer_that_came_broken_is_not_kept(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    hub.claims[NAME] = "1" * 64
    with pytest.raises(GaveUp, match="the transfer was broken"):
        fetch()
    assert left(folder) == []


def test_a_branch_counts_as_the_commit_it_had(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.files["m-00001-of-00002.gguf"], hub.files["m-00002-of-00002.gguf"] = content(MIB), content(MIB, 1)
    found = fetch("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", revision=None).stamps
    assert [stamp.source for stamp in found] == [f"org/models@{COMMIT}"] * 2


def test_parts_without_a_hash_leave_the_model_unpinned(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    names = [f"q/m-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    for seed, name in enumerate(names):
        hub.files[name] = content(MIB, seed)
    found = fetch(*names, sha256=hub.sha256(names[0])).stamps
    assert [stamp.state for stamp in found] == [State.PINNED, State.UNPINNED, State.UNPINNED]
    checked = weights.check(folder / names[0], hub.sha256(names[0]))
    assert (checked.state, checked.size) == (State.UNPINNED, 3 * MIB)
    assert "m-00002-of-00003.gguf, m-00003-of-00003.gguf" in checked.reason


def test_a_renamed_repository_is_followed(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    assert fetch(sha256=hub.sha256(NAME), repository="org/renamed").stamps[0].state is State.PINNED


def test_the_token_opens_a_gated_repository_and_goes_nowhere_else(
    hub: FakeHub, fetch: Callable[..., Outcome]
) -> None:
    hub.token = TOKEN
    (stamp,), lines = fetch(sha256=hub.sha256(NAME), token=TOKEN)
    assert stamp.state is State.PINNED
    assert hub.leaked == []
    assert not any(TOKEN in line or "signature" in line for line in lines)


def test_a_gated_repository_without_a_token_says_where_to_put_one(
    hub: FakeHub, fetch: Callable[..., Outcome]
) -> None:
    hub.gated = True
    with pytest.raises(
        NotAllowed, match=r"org/models is gated.*HF_TOKEN.*inference\.llamacpp\.weights\.token"
    ):
        fetch()
    assert hub.heads == 1


def test_a_token_that_is_not_accepted_names_its_secret(hub: FakeHub, fetch: Callable[..., Outcome]) -> None:
    hub.token = TOKEN
    with pytest.raises(NotAllowed, match="of the Secret hub-token was not accepted") as refused:
        fetch(token="hf_other", secret="hub-token")
    assert "hf_other" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"repository": "org/nothing"}, NotAllowed, "is private or gated, or does not exist"),
        ({"revision": "f" * 40}, MissingWeights, "has no revision ffff"),
    ],
    ids=["no such repository", "no such revision"],
)
def test_what_is_not_there_is_told_at_once(
    fetch: Callable[..., Outcome], wrong: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        fetch(**wrong)


def test_a_missing_file_is_told_before_the_others_are_loaded(
    hub: FakeHub, fetch: Callable[..., Outcome]
) -> None:
    with pytest.raises(MissingWeights, match=r"org/models at 0123\w+ has no file other\.gguf"):
        fetch(NAME, "other.gguf")
    assert hub.gets == []


def test_a_small_volume_is_told_before_the_first_byte(
    hub: FakeHub, fetch: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=2 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoRoom, match=r"2\.0 MiB free, and 19\.0 MiB are needed"):
        fetch()
    assert hub.gets == []


def test_a_file_that_somebody_put_there_is_read_once_and_kept(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    folder.mkdir()
    (folder / NAME).write_bytes(hub.files[NAME])
    assert fetch(sha256=hub.sha256(NAME)).stamps[0].state is State.PINNED
    assert hub.gets == []


def test_another_file_under_that_name_is_replaced(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    folder.mkdir()
    (folder / NAME).write_bytes(content(3 * MIB, seed=9))
    _, lines = fetch(sha256=hub.sha256(NAME))
    assert (folder / NAME).read_bytes() == hub.files[NAME]
    assert any("that file is another one" in line for line in lines)


def test_a_verdict_against_another_hash_is_no_verdict_on_this_one(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    fetch()
    stamps.path_of(folder / NAME).unlink()
    assert weights.check(folder / NAME, "0" * 64).state is State.WRONG
    (stamp,) = fetch(sha256=hub.sha256(NAME)).stamps
    assert stamp.state is State.PINNED
    assert len(hub.gets) == 1


def test_a_file_that_was_changed_later_is_loaded_again(
    hub: FakeHub, fetch: Callable[..., Outcome], folder: Path
) -> None:
    fetch(sha256=hub.sha256(NAME))
    with (folder / NAME).open("r+b") as file:
        file.seek(100)
        file.write(b"!")
    fetch(sha256=hub.sha256(NAME))
    assert (folder / NAME).read_bytes() == hub.files[NAME]


def test_the_command_line_is_the_charts(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files[NAME] = content(MIB)
    monkeypatch.setenv("HF_ENDPOINT", hub.hub)
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setenv("BERTH_TERMINATION_LOG", str(log))
    line = ["--repository", "org/models", "--revision", COMMIT, "--file", NAME]
    line += ["--size", str(MIB), "--to", str(tmp_path)]
    assert commands.fetch([*line, "--sha256", "0" * 64]) == weights.EXIT_WRONG_HASH
    assert "is not what was promised" in log.read_text()
    assert commands.fetch([*line, "--sha256", hub.sha256(NAME)]) == 0
    assert f"{NAME}: Pinned, sha256:{hub.sha256(NAME)}, 1.0 MiB" in capsys.readouterr().err
    assert json.loads((tmp_path / f"{NAME}.berth.json").read_text())["state"] == "Pinned"


@pytest.mark.parametrize("name", ["../m.gguf", "/etc/m.gguf", "a/../../m.gguf"], ids=repr)
def test_a_name_that_leads_out_of_the_folder_is_refused(fetch: Callable[..., Outcome], name: str) -> None:
    with pytest.raises(weights.WeightsError, match="no path below a repository's root"):
        fetch(name)
