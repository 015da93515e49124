"""The command line as people and CI use it: exit codes, streams and words."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from generator import cli
from tests.repositories import git

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: good
resource:
  instanceType: Standard_NC12s_v3
  labelSelector:
    matchLabels: {apps: good}
inference:
  preset: {name: falcon-7b}
"""
BAD = GOOD.replace("name: good", "name: bad").replace("falcon-7b", "falcon-7")
TOO_BIG = GOOD.replace("name: good", "name: big").replace("falcon-7b", "llama-2-70b")

Run = "Callable[..., tuple[int, str, str]]"


@pytest.fixture
def berth(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def test_a_clean_tree_is_fine(berth: Any, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    code, _, talk = berth("check", tmp_path)
    assert code == 0
    assert "1 Workspace in 1 file: all fine" in talk


@pytest.mark.parametrize(
    ("files", "words", "exit_code"),
    [
        pytest.param({}, "no Workspace was found", 0, id="an empty folder"),
        pytest.param({"a.yaml": "kind: Other\n"}, "no Workspace was found", 0, id="nothing of ours"),
        pytest.param({"a.yaml": GOOD + "x: [\n"}, "no Workspace was found; 1 file with problems", 1,
                     id="a file that is no YAML"),
        pytest.param({"a.yaml": BAD, "b.yaml": GOOD}, "2 Workspaces in 2 files: 1 with problems", 1,
                     id="a wrong Workspace"),
        pytest.param({"a.yaml": BAD, "b.yaml": BAD + "x: [\n"},
                     "1 Workspace in 2 files: 1 with problems, 1 file with problems", 1, id="both"),
        pytest.param({"a.yaml": GOOD, "berth.yaml": "cloud: moon\n"},
                     "1 Workspace in 2 files: 1 file with problems", 1, id="a wrong fleet file"),
    ],
)  # fmt: skip
def test_the_last_line_counts_workspaces_and_files_apart(
    berth: Any, tmp_path: Path, files: dict[str, str], words: str, exit_code: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    code, _, talk = berth("check", tmp_path)
    assert (code, talk.splitlines()[-1].split(", 1 warning")[0].split(", 2 warnings")[0]) == (
        exit_code,
        words,
    )


@pytest.mark.parametrize("command", [one.name for one in cli.app.registered_commands])
def test_the_examples_of_a_command_stand_whole_below_each_other(
    berth: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    written = inspect.getdoc(next(
        one.callback for one in cli.app.registered_commands if one.name == command)) or ""  # fmt: skip
    examples = [line for line in written.partition("Examples:")[2].splitlines() if line]
    assert examples
    shown = [line.rstrip() for line in berth(command, "--help")[1].splitlines()]
    assert [f" {example}" for example in examples] == [line for line in shown if line[1:] in examples]


def test_a_problem_is_told_with_its_place_and_fix(berth: Any, tree: Path) -> None:
    code, out, _ = berth("check", tree)
    assert code == 1
    assert f"{tree}/bad.yaml:10:12: error: inference.preset.name: no preset is named 'falcon-7'" in out
    assert "fix: the nearest are falcon-7b" in out


def test_quiet_leaves_out_warnings_and_keeps_the_verdict(berth: Any, tree: Path) -> None:
    code, out, _ = berth("check", tree, "--quiet")
    assert code == 1
    assert ": warning:" not in out


def test_json_is_one_document_with_stable_keys(berth: Any, tree: Path) -> None:
    code, out, _ = berth("check", tree, "--format", "json")
    workspaces = {found["name"]: found for found in json.loads(out)["workspaces"]}
    assert code == 1
    assert workspaces["good"]["valid"] is True
    assert set(workspaces["bad"]) == {"file", "namespace", "name", "valid", "problems"}
    problem = workspaces["bad"]["problems"][0]
    assert (problem["path"], problem["value"]) == ("inference.preset.name", "falcon-7")
    assert (problem["line"], problem["column"], problem["severity"]) == (10, 12, "error")
    assert problem["reason"]
    assert "falcon-7b" in problem["fix"]


def test_github_annotations_escape_what_would_break_them(berth: Any, tree: Path) -> None:
    _, out, _ = berth("check", tree, "--format", "github")
    line = next(line for line in out.splitlines() if line.startswith("::error"))
    assert line.startswith(f"::error file={tree}/bad.yaml,line=10,col=12,title=inference.preset.name::")
    assert "\n" not in line


def test_a_plan_as_json_has_the_figures_of_every_gpu(berth: Any, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    code, out, _ = berth("plan", tmp_path, "--format", "json")
    (found,) = json.loads(out)["workspaces"]
    assert code == 0
    assert (found["instanceType"], found["nodes"], found["replicas"]) == ("Standard_NC12s_v3", 1, 1)
    assert (found["gpusPerReplica"], found["nodesPerReplica"]) == (1, 1)
    (gpu,) = found["memory"]["gpus"]
    assert (
        gpu["total"] == gpu["weights"] + gpu["kvCache"] + gpu["compute"] + gpu["overhead"] <= gpu["capacity"]
    )
    assert found["memory"]["unit"] == "bytes"
    assert set(found["cost"]) == {"perHour", "currency", "asOf"}
    assert found["server"]["contextSize"] == 2048


def test_what_does_not_fit_says_what_would(berth: Any, tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_text(TOO_BIG)
    code, out, _ = berth("check", tmp_path)
    assert code == 1
    assert "so each GPU is short of" in out
    assert "write instanceType: " in out


def test_markdown_is_a_table_for_pull_requests(berth: Any, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    _, out, _ = berth("plan", tmp_path, "--format", "markdown")
    assert "| good | falcon-7b Q4_K_M | 1 × Standard_NC12s_v3 |" in out


def test_since_tells_what_a_change_makes_of_the_plan(berth: Any, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    spec = tmp_path / "good.yaml"
    spec.write_text(GOOD)
    (tmp_path / "gone.yaml").write_text(GOOD.replace("name: good", "name: gone"))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "gone.yaml").unlink()
    (tmp_path / "new.yaml").write_text(GOOD.replace("name: good", "name: new"))
    spec.write_text(GOOD.replace("resource:\n", "resource:\n  count: 3\n"))
    code, out, _ = berth("plan", tmp_path, "--since", "HEAD", "--format", "markdown")
    assert code == 0
    assert "1 × Standard_NC12s_v3 → 3 × Standard_NC12s_v3" in out
    assert "gone (removed)" in out
    assert "new (new)" in out
    _, out, _ = berth("plan", tmp_path, "--since", "HEAD", "--format", "json")
    changes = {change["name"]: change for change in json.loads(out)["changes"]}
    assert (changes["good"]["before"]["nodes"], changes["good"]["after"]["nodes"]) == (1, 3)
    assert changes["gone"]["after"] is None
    assert changes["new"]["before"] is None


def test_nothing_changed_says_so(berth: Any, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "good.yaml").write_text(GOOD)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    assert "No Workspace's plan changes." in berth("plan", tmp_path, "--since", "HEAD")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["check", "no-such-place"], "no-such-place", id="a path that is not there"),
        pytest.param(["size", "no-such-model"], "no preset is named 'no-such-model'", id="an unknown model"),
        pytest.param(["size", "falcon-7b", "-q", "Q9"], "not offered", id="an unknown quantization"),
        pytest.param(["size", "falcon-7b", "--cache-type-k", "f8"], "f8", id="an unknown cache type"),
        pytest.param(["explain", "nothing"], "no preset is named 'nothing'", id="an unknown name"),
        pytest.param(["presets", "zzz"], "no preset matches 'zzz'", id="a search without a hit"),
        pytest.param(["plan", ".", "--since", "no-such-ref"], "no-such-ref", id="an unknown revision"),
    ],
)
def test_what_can_not_run_is_told_in_one_line(berth: Any, arguments: list[str], words: str) -> None:
    code, _, talk = berth(*arguments)
    assert code in (1, 2)
    assert words in talk + berth(*arguments)[1]
    assert "Traceback" not in talk


def test_sizes_have_the_contract_s_keys(berth: Any) -> None:
    code, out, _ = berth("size", "llama-3.1-8b-instruct", "--context", 8192, "--gpus", 2, "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert {"model", "quantization", "settings", "gpus", "host", "unit"} <= set(document)
    assert [set(gpu) for gpu in document["gpus"]] == [
        {"weights", "kvCache", "compute", "overhead", "total"},
    ] * 2  # fmt: skip
    assert document["unit"] == "bytes"


def test_a_gpu_adds_what_cuda_takes(berth: Any) -> None:
    bare = json.loads(berth("size", "falcon-7b", "--format", "json")[1])["gpus"][0]
    real = json.loads(berth("size", "falcon-7b", "--gpu", "V100", "--format", "json")[1])["gpus"][0]
    assert bare["overhead"] == 0 < real["overhead"]
    assert real["total"] - bare["total"] == real["overhead"]


def test_a_gpu_that_nobody_knows_is_told(berth: Any) -> None:
    assert "warning" not in berth("size", "falcon-7b", "--gpu", "nvidia-a100")[2]
    code, _, talk = berth("size", "falcon-7b", "--gpu", "A1O")
    assert code == 0
    assert "warning: no GPU is known as 'A1O', so CUDA is counted as on the newest" in talk


def test_a_context_beyond_training_warns_and_answers(berth: Any) -> None:
    code, out, talk = berth("size", "falcon-7b", "--context", 4096, "--format", "json")
    assert code == 0
    assert json.loads(out)["warnings"]
    assert "beyond the 2048" in talk


def test_the_scaffold_is_fine_and_the_example_is_the_scaffold(berth: Any, tmp_path: Path) -> None:
    assert berth("init", tmp_path)[0] == 0
    assert berth("check", tmp_path)[0] == 0
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert Path(".github/workflows/berth.yaml") in written
    for path, text in written.items():
        assert (ROOT / "examples" / "fleet" / path).read_text() == text


def test_the_scaffold_keeps_what_is_there(berth: Any, tmp_path: Path) -> None:
    (tmp_path / "berth.yaml").write_text("cloud: aws\n")
    berth("init", tmp_path)
    assert (tmp_path / "berth.yaml").read_text() == "cloud: aws\n"


def test_install_prints_the_crd_and_its_roles(berth: Any) -> None:
    code, out, _ = berth("install", "--out", "-")
    assert code == 0
    assert "kind: CustomResourceDefinition" in out
    assert "kind: ClusterRole" in out


def test_install_check_tells_a_stale_folder(berth: Any, tmp_path: Path) -> None:
    assert berth("install", "--out", tmp_path)[0] == 0
    assert berth("install", "--out", tmp_path, "--check")[0] == 0
    (tmp_path / "kustomization.yaml").write_text("edited\n")
    code, out, _ = berth("install", "--out", tmp_path, "--check")
    assert (code, "kustomization.yaml: differs" in out) == (1, True)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", "--help"], ["check", str(ROOT / "examples/kaito")]]
)
def test_neither_help_nor_check_imports_what_is_slow(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom generator import cli\n"
        f"cli.run({arguments!r})\n"
        "loaded = {'cdk8s', 'jsii', 'constructs', 'fastapi', 'kr8s'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    berth = Path(sys.executable).with_name("berth")
    done = subprocess.run(
        f"{berth} presets --format json | head -1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_a_workspace_that_stands_twice_warns_in_check_and_stops_a_render(berth: Any, tmp_path: Path) -> None:
    for cluster in ("one", "two"):
        (tmp_path / cluster).mkdir()
        (tmp_path / cluster / "good.yaml").write_text(GOOD)
    code, out, _ = berth("check", tmp_path)
    assert (code, "already stands in" in out) == (0, True)
    code, _, talk = berth("render", tmp_path, "--out", tmp_path / "out")
    assert (code, "already stands in" in talk) == (1, True)
    assert not (tmp_path / "out").exists()


def test_since_announces_an_interruption(berth: Any, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "berth.yaml").write_text("networkPolicy: enforced\n")
    spec = TOO_BIG.replace("resource:\n", "resource:\n  count: 2\n")
    (tmp_path / "big.yaml").write_text(spec)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "big.yaml").write_text(spec.replace("Standard_NC12s_v3", "Standard_NC24ads_A100_v4"))
    _, out, _ = berth("plan", tmp_path, "--since", "HEAD", "--format", "markdown")
    assert "- `big`: moves from StatefulSets to a Deployment" in out


def test_a_misspelt_fallback_is_a_problem_of_the_fleet_file(berth: Any, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "berth.yaml").write_text("cloud: azure\nfallbackInstanceTypes: [Standard_NC24_v3]\n")
    code, out, _ = berth("check", tmp_path)
    assert code == 1
    assert f"{tmp_path}/berth.yaml:2:25: error: fallbackInstanceTypes[0]: no instance type is named" in out
    assert "Standard_NC24s_v3" in out


def test_since_announces_the_restart_of_an_only_replica(berth: Any, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    spec = GOOD.replace("NC12s", "NC6s") + "  llamacpp: {parallel: 1}\n"
    (tmp_path / "good.yaml").write_text(spec)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "good.yaml").write_text(spec.replace("1}", "1, extraArgs: [--no-warmup]}"))
    _, out, _ = berth("plan", tmp_path, "--since", "HEAD")
    assert out.endswith("Nothing else changes.\n")
    assert "restarts its only replica" in out
    _, out, _ = berth("plan", tmp_path, "--since", "HEAD", "--format", "json")
    assert "restarts its only replica" in json.loads(out)["changes"][0]["interruption"]
