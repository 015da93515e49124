"""A rendered folder is written whole or not at all, and other people's files stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from generator import exchange, lockfile, store
from generator.lockfile import Lock, Owned

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = Lock("")


def update(folders: Mapping[str, Mapping[str, bytes]], **kept: Owned) -> store.Update:
    owned = {
        folder: Owned("i", {name: lockfile.sha256(text) for name, text in files.items()})
        for folder, files in folders.items()
    }
    return store.Update(Lock("0.1.0", folders={**owned, **kept}), folders, {"root.yaml": b"root\n"})


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != lockfile.NAME
    }


@pytest.fixture(params=["exchange", "two renames"])
def out(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder with two Workspaces, on a system with and without the exchange of folders."""
    if request.param == "two renames":
        monkeypatch.setattr(exchange, "_exchanged", lambda one, other: False)
    folder = tmp_path / "rendered"
    store.apply(folder, update({"a": {"one.yaml": b"1", "two.yaml": b"2"}, "b": {"one.yaml": b"b"}}), NOTHING)
    return folder


def test_the_record_tells_what_was_written(out: Path) -> None:
    lock = lockfile.load(out)
    assert lock is not None
    assert sorted(lock.folders) == ["a", "b"]
    assert list(store.edited(out, lock)) == []
    assert tree(out) == {"a/one.yaml": b"1", "a/two.yaml": b"2", "b/one.yaml": b"b", "root.yaml": b"root\n"}


def test_a_changed_folder_is_replaced_and_a_dropped_one_goes(out: Path) -> None:
    old = lockfile.load(out)
    assert old is not None
    store.apply(out, update({"a": {"one.yaml": b"new"}}), old)
    assert tree(out) == {"a/one.yaml": b"new", "root.yaml": b"root\n"}
    assert not (out / store.STAGE).exists()


def test_files_of_others_stay(out: Path) -> None:
    for path in ("mine.txt", "a/mine.yaml", "a/sub/mine.yaml", "b/notes.md"):
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_bytes(path.encode())
    (out / "a" / "link").symlink_to("mine.yaml")
    old = lockfile.load(out)
    assert old is not None
    store.apply(out, update({"a": {"one.yaml": b"new"}}), old)
    found = tree(out)
    for path in ("mine.txt", "a/mine.yaml", "a/sub/mine.yaml", "b/notes.md"):
        assert found[path] == path.encode()
    assert (out / "a" / "link").readlink() == Path("mine.yaml")
    assert "b/one.yaml" not in found
    assert "a/two.yaml" not in found


def test_a_file_of_somebody_elses_is_never_overwritten(out: Path) -> None:
    (out / "c").mkdir()
    (out / "c" / "one.yaml").write_bytes(b"theirs")
    before, old = tree(out), lockfile.load(out)
    assert old is not None
    with pytest.raises(store.ForeignFileError, match=r"did not write .*c/one\.yaml"):
        store.apply(out, update({"c": {"one.yaml": b"ours"}}), old)
    assert tree(out) == before


def test_an_equal_file_is_taken_over(out: Path) -> None:
    (out / "c").mkdir()
    (out / "c" / "one.yaml").write_bytes(b"same")
    old = lockfile.load(out)
    assert old is not None
    store.apply(out, update({"c": {"one.yaml": b"same"}}), old)
    assert tree(out)["c/one.yaml"] == b"same"


@pytest.mark.parametrize("fails_at", range(1, 6), ids="at step {}".format)
def test_a_failure_half_way_leaves_everything_as_it_was(
    out: Path, fails_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a" / "mine.yaml").write_bytes(b"mine")
    before, old = tree(out), lockfile.load(out)
    record = (out / lockfile.NAME).read_bytes()
    assert old is not None
    steps = 0
    real_rename, real_replace, real_place = Path.rename, Path.replace, exchange.place

    def counted() -> None:
        nonlocal steps
        steps += 1
        if steps == fails_at:
            raise OSError(28, "No space left on device")

    def place(new: Path, target: Path) -> None:
        counted()
        real_place(new, target)

    def replace(self: Path, target: Path) -> Path:
        counted()
        return real_replace(self, target)

    monkeypatch.setattr(exchange, "place", place)
    monkeypatch.setattr(Path, "replace", replace)
    changed = update({"a": {"one.yaml": b"new"}, "c": {"one.yaml": b"c"}, "d": {"one.yaml": b"d"}})
    with pytest.raises(OSError, match="No space left"):
        store.apply(out, changed, old)
    monkeypatch.setattr(Path, "rename", real_rename)
    # The root's file is the same before and after, so that only folders could show a half-way state.
    assert tree(out) == before
    assert (out / lockfile.NAME).read_bytes() == record
    assert not (out / store.STAGE).exists()


@pytest.mark.parametrize("killed_at", range(1, 5), ids="at step {}".format)
def test_after_a_kill_every_folder_is_whole_and_the_next_run_mends_the_rest(
    out: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a" / "mine.yaml").write_bytes(b"mine")
    changed = update({"a": {"one.yaml": b"new", "three.yaml": b"3"}, "c": {"one.yaml": b"c"}})
    child = os.fork()
    if child == 0:
        steps = 0

        def dying(real: Any) -> Any:
            def step(*arguments: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == killed_at:
                    os._exit(9)
                return real(*arguments)

            return step

        for owner, name in ((Path, "rename"), (Path, "replace"), (exchange, "_exchanged")):
            setattr(owner, name, dying(getattr(owner, name)))
        store.apply(out, changed, lockfile.load(out) or NOTHING)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    pending = store.recover(out)
    whole = [
        {"one.yaml": b"1", "two.yaml": b"2", "mine.yaml": b"mine"},
        {"one.yaml": b"new", "three.yaml": b"3", "mine.yaml": b"mine"},
    ]
    assert tree(out / "a") in whole
    store.apply(out, changed, lockfile.load(out) or NOTHING, pending)
    assert tree(out) == {
        "a/mine.yaml": b"mine", "a/one.yaml": b"new", "a/three.yaml": b"3", "c/one.yaml": b"c",
        "root.yaml": b"root\n",
    }  # fmt: skip


def test_an_edit_by_hand_is_seen(out: Path) -> None:
    (out / "a" / "one.yaml").write_bytes(b"edited")
    (out / "b" / "one.yaml").unlink()
    lock = lockfile.load(out)
    assert lock is not None
    assert sorted(store.edited(out, lock)) == ["a/one.yaml", "b/one.yaml"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"format": 99}',
        '{"format":1,"berth":"","fleet":{},"files":{},"folders":{"../x":{"inputs":"","files":{}}}}',
        '{"format":1,"berth":"","fleet":{},"files":{"/etc/x":""},"folders":{}}',
    ],
    ids=["nothing", "no record", "a list", "a later format", "a folder outside", "a file outside"],
)
def test_a_record_that_is_none_stops_everything(tmp_path: Path, text: str) -> None:
    (tmp_path / lockfile.NAME).write_text(text)
    with pytest.raises(lockfile.InvalidLockError, match=lockfile.NAME):
        lockfile.load(tmp_path)


def test_the_record_is_the_same_for_the_same_content() -> None:
    one = Lock("v", folders={"b": Owned("i", {"y": "2", "x": "1"}), "a": Owned("i", {})})
    two = Lock("v", folders={"a": Owned("i", {}), "b": Owned("i", {"x": "1", "y": "2"})})
    assert one.dumps() == two.dumps()


def test_two_renders_at_once_do_not_mix(out: Path) -> None:
    with store.alone(out), pytest.raises(store.BusyError, match="another render"), store.alone(out):
        pass
    with store.alone(out):
        assert list(store.edited(out, lockfile.load(out) or NOTHING)) == []
