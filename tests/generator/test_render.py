"""`berth render` from spec files to a folder: only what changed, and nothing of anybody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from generator import bridge, lockfile, quick, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKSPACE = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: {name}{namespace}
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector:
    matchLabels:
      apps: {name}
inference:
  preset:
    name: falcon-7b
  llamacpp:
    parallel: {parallel}
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write(folder, "one")
    write(folder, "two", "chat")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "rendered"


def write(folder: Path, name: str, namespace: str | None = None, parallel: int = 4) -> Path:
    line = f"\n  namespace: {namespace}" if namespace else ""
    path = folder / f"{namespace or 'none'}-{name}.yaml"
    path.write_text(WORKSPACE.format(name=name, namespace=line, parallel=parallel))
    return path


def run(specs: Path, out: Path, **options: Any) -> render.Outcome:
    return render.run([str(specs)], out, **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


def files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def berth(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("berth"), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, whoever needs Node fails."""

    def refuse(charts: Any) -> Any:
        raise bridge.BridgeError("Node was started")

    monkeypatch.setattr(bridge, "made", refuse)
    monkeypatch.setattr(bridge, "warm", lambda: None)


def test_each_workspace_gets_a_folder_and_each_object_a_file(specs: Path, out: Path) -> None:
    outcome = run(specs, out)
    assert outcome.rendered == ("chat_two", "one")
    assert sorted(path.name for path in out.iterdir()) == [
        lockfile.NAME, "chat_two", "kustomization.yaml", "one",
    ]  # fmt: skip
    assert yaml.safe_load((out / "kustomization.yaml").read_text())["resources"] == ["chat_two", "one"]
    listed = yaml.safe_load((out / "one" / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted({path.name for path in (out / "one").iterdir()} - {"kustomization.yaml"})
    for name in listed:
        thing = yaml.safe_load((out / "one" / name).read_text())
        assert name == f"{thing['kind'].lower()}-{thing['metadata']['name']}.yaml"
        assert "namespace" not in thing["metadata"]


def test_one_name_in_two_namespaces_and_in_none_never_collides(specs: Path, out: Path) -> None:
    for namespace in ("chat", "search"):
        write(specs, "one", namespace)
    assert run(specs, out).rendered == ("chat_one", "chat_two", "one", "search_one")
    found = {
        folder: yaml.safe_load((out / folder / "service-one.yaml").read_text())["metadata"].get("namespace")
        for folder in ("one", "chat_one", "search_one")
    }
    assert found == {"one": None, "chat_one": "chat", "search_one": "search"}


@pytest.mark.usefixtures("no_node")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda specs: None, id="nothing at all"),
        pytest.param(lambda specs: (specs / "notes.yaml").write_text("kind: Other\n"), id="another file"),
        pytest.param(
            lambda specs: (specs / "none-one.yaml").write_text(
                "# A comment about kaito.sh\n" + (specs / "none-one.yaml").read_text()
            ),
            id="a comment",
        ),
        pytest.param(
            lambda specs: (specs / "none-one.yaml").rename(specs / "a.yaml"), id="another file name"
        ),
    ],
)
def test_what_did_not_change_is_not_rendered_again(
    specs: Path, out: Path, change: Callable[[Path], Any], request: pytest.FixtureRequest
) -> None:
    with pytest.MonkeyPatch.context() as working:
        working.setattr(bridge, "made", _REAL_MADE)
        run(specs, out)
    before = {path: path.stat() for path in files(out)}
    change(specs)
    outcome = run(specs, out)
    assert (outcome.rendered, outcome.unchanged) == ((), 2)
    after = {path: path.stat() for path in files(out)}
    assert {path: stat.st_mtime_ns for path, stat in before.items()} == {
        path: stat.st_mtime_ns for path, stat in after.items()
    }


_REAL_MADE = bridge.made


@pytest.mark.usefixtures("no_node")
def test_a_newer_berth_that_makes_the_same_objects_changes_one_line(
    specs: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as working:
        working.setattr(bridge, "made", _REAL_MADE)
        run(specs, out)
    before = tree(out)
    monkeypatch.setattr(render, "__version__", "9.9.9")
    (specs / "notes.yaml").write_text("# kaito.sh\n")
    assert run(specs, out).rendered == ()
    after = tree(out)
    assert {path for path in after if after[path] != before[path]} == {lockfile.NAME}
    assert after[lockfile.NAME].replace(b"9.9.9", b"0.1.0") == before[lockfile.NAME]


def test_only_the_changed_workspace_is_rendered(specs: Path, out: Path) -> None:
    run(specs, out)
    before = tree(out)
    write(specs, "one", parallel=2)
    assert run(specs, out).rendered == ("one",)
    after = tree(out)
    changed = {path.split("/")[0] for path in after if after[path] != before.get(path)}
    assert changed == {"one", lockfile.NAME}


@pytest.mark.usefixtures("no_node")
def test_where_there_is_no_workspace_nothing_is_written(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", out).notices == ("there is no Workspace in what was given",)
    assert not out.exists()


def test_a_workspace_that_left_git_leaves_the_folder(specs: Path, out: Path) -> None:
    run(specs, out)
    (specs / "chat-two.yaml").unlink()
    outcome = run(specs, out)
    assert (outcome.rendered, outcome.removed) == ((), ("chat_two",))
    assert not (out / "chat_two").exists()
    assert yaml.safe_load((out / "kustomization.yaml").read_text())["resources"] == ["one"]


def test_files_of_others_stay(specs: Path, out: Path) -> None:
    out.mkdir()
    (out / "kustomization.yaml").write_text("resources: [one]\n")
    (out / "README.md").write_text("mine")
    outcome = run(specs, out)
    assert any("kustomization.yaml is not berth's" in notice for notice in outcome.notices)
    (out / "chat_two" / "patch.yaml").write_text("mine")
    (specs / "chat-two.yaml").unlink()
    run(specs, out)
    assert (out / "kustomization.yaml").read_text() == "resources: [one]\n"
    assert (out / "README.md").read_text() == "mine"
    assert [path.name for path in (out / "chat_two").iterdir()] == ["patch.yaml"]


def test_an_edit_by_hand_is_told_and_mended(specs: Path, out: Path) -> None:
    run(specs, out)
    before = tree(out)
    path = out / "one" / "deployment-one.yaml"
    path.write_text(path.read_text().replace("replicas: 1", "replicas: 3"))
    outcome = run(specs, out)
    assert outcome.rendered == ("one",)
    assert any("deployment-one.yaml was edited by hand" in notice for notice in outcome.notices)
    assert tree(out) == before


def test_check_tells_every_difference_and_writes_nothing(specs: Path, out: Path) -> None:
    run(specs, out)
    (out / "one" / "service-one.yaml").unlink()
    (out / "one" / "deployment-one.yaml").write_text("edited")
    (specs / "chat-two.yaml").unlink()
    write(specs, "three")
    before = tree(out)
    found = run(specs, out, check=True).differences
    assert tree(out) == before
    assert f"{out}/one/service-one.yaml: missing" in found
    assert f"{out}/one/deployment-one.yaml: differs" in found
    assert f"{out}/chat_two: no longer wanted" in found
    assert f"{out}/three/deployment-three.yaml: missing" in found


def test_check_is_content_with_a_fresh_render(specs: Path, out: Path) -> None:
    run(specs, out)
    assert run(specs, out, check=True).differences == ()


def test_check_before_the_first_render_writes_nothing(specs: Path, out: Path) -> None:
    assert run(specs, out, check=True).differences
    assert not out.exists()


def test_a_spec_with_a_problem_stops_everything(specs: Path, out: Path) -> None:
    run(specs, out)
    before = tree(out)
    write(specs, "one", parallel=8)
    (specs / "bad.yaml").write_text(WORKSPACE.format(name="bad", namespace="", parallel="many"))
    outcome = run(specs, out)
    assert not outcome.valid
    assert tree(out) == before


def test_when_cdk8s_fails_half_way_the_old_folder_is_whole(
    specs: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(specs, out)
    before = tree(out)
    write(specs, "one", parallel=2)
    write(specs, "two", "chat", parallel=2)

    def dies_after_one(charts: Any) -> Iterator[Any]:
        made = _REAL_MADE(charts)
        yield next(made)
        raise bridge.BridgeError("Node is gone")

    monkeypatch.setattr(bridge, "made", dies_after_one)
    with pytest.raises(bridge.BridgeError, match="Node is gone"):
        run(specs, out)
    assert tree(out) == before


def test_the_stream_holds_the_same_objects_in_apply_order(
    specs: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(specs, out)
    assert render.command_line([str(specs)], out="-") == 0
    streamed = list(yaml.safe_load_all(capsys.readouterr().out))
    written = [
        yaml.safe_load((out / folder / name).read_text())
        for folder in ("chat_two", "one")
        for name in yaml.safe_load((out / folder / "kustomization.yaml").read_text())["resources"]
    ]
    assert streamed == written
    assert [thing["kind"] for thing in streamed[:3]] == ["Workspace", "ServiceAccount", "ConfigMap"]


@pytest.mark.parametrize("stream", [False, True], ids=["to a folder", "to a stream"])
def test_warnings_are_told_beside_it_as_check_words_them(
    specs: Path, out: Path, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    path = write(specs, "three", "chat")
    path.write_text(path.read_text().replace("  llamacpp:", "  config: tuned\n  llamacpp:"))
    told = berth("check", specs).stdout
    assert f"{path}:14:3: warning: inference.config:" in told
    assert render.command_line([str(specs)], out="-" if stream else str(out)) == 0
    said = capsys.readouterr()
    assert said.err.startswith(told)
    assert "warning:" not in said.out
    assert render.command_line([str(specs)], out=str(out), check=True) == (1 if stream else 0)
    assert "warning:" not in capsys.readouterr().err


@pytest.mark.parametrize("where", ["the folder itself", "a folder above"])
def test_an_output_folder_that_holds_the_specs_is_refused(specs: Path, where: str) -> None:
    out = specs if where == "the folder itself" else specs.parent
    with pytest.raises(render.OutputError, match="a folder of its own"):
        run(specs, out)
    assert sorted(path.name for path in specs.iterdir()) == ["chat-two.yaml", "none-one.yaml"]


def test_rendered_manifests_are_never_read_as_specs(specs: Path) -> None:
    out = specs / "rendered"
    assert run(specs, out).rendered == ("chat_two", "one")
    assert run(specs, out).unchanged == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "reason"),
    [("/bin/false", "/bin/false is none that works"), ("/nowhere/node", "/nowhere/node can't be started")],
    ids=["a program that is no Node", "no program at all"],
)
def test_without_node_a_cold_render_fails_with_a_clear_error(
    specs: Path, out: Path, node: str, reason: str
) -> None:
    done = berth("render", specs, "--out", out, JSII_NODE=node)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.slow
def test_without_node_an_unchanged_render_works(specs: Path, out: Path) -> None:
    assert berth("render", specs, "--out", out).returncode == 0
    for cache in ("cache", "another-cache"):
        done = berth(
            "render", specs, "--out", out, JSII_NODE="/bin/false", XDG_CACHE_HOME=str(out.parent / cache)
        )
        assert (done.returncode, done.stderr) == (0, f"{out}: 0 rendered, 2 unchanged\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Auckland", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "TZ": "America/Lima", "LC_ALL": "C.UTF-8"},
    ],
    ids=["Auckland", "Lima"],
)
def test_the_same_specs_give_the_same_bytes_anywhere(
    specs: Path, out: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    run(specs, out)
    elsewhere = tmp_path / "a folder with spaces" / "rendered"
    elsewhere.parent.mkdir()
    paths = sorted(specs.iterdir(), reverse=True)
    nearby = [path.relative_to(specs.parent) for path in paths]
    done = berth("render", *nearby, "--out", elsewhere, "--jobs", "2", cwd=specs.parent, **environment)
    assert done.returncode == 0, done.stderr
    assert tree(elsewhere) == tree(out)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["render", "SPECS", "--out", "OUT"], 0),
        (["render", "--out=OUT", "SPECS"], 0),
        (["render", "-o", "OUT", "SPECS", "--check"], 0),
        (["render", "SPECS", "--out", "OTHER"], None),
        (["render", "SPECS", "--out", "-"], None),
        (["render", "-", "--out", "OUT"], None),
        (["render", "SPECS", "--out", "OUT", "--fleet", "nowhere.yaml"], None),
        (["render", "SPECS", "--out", "OUT", "--jobs", "2"], None),
        (["render", "SPECS", "--out"], None),
        (["render", "nowhere", "--out", "OUT"], None),
        (["render", "--help"], None),
        (["check", "SPECS", "--out", "OUT"], None),
        ([], None),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_the_short_way_is_gone_only_where_nothing_changed(
    specs: Path, out: Path, arguments: list[str], code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    run(specs, out)
    places = {"SPECS": str(specs), "OUT": str(out), "OTHER": str(out.with_name("other"))}
    given = [places.get(one, one.replace("OUT", str(out)) if "=" in one else one) for one in arguments]
    assert quick.render(given) == code
    assert capsys.readouterr().err == (f"{out}: 0 rendered, 2 unchanged\n" if code == 0 else "")
