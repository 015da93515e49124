"""`berth import`: nothing of KAITO's gets lost, and what differs is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth import workspaces
from generator import cli

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).resolve().parents[1] / "data" / "kaito-examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
SAMPLES = {file for file in FILES if "config__samples" in file.name}
"""They hold `inference.preset.volume`, which no version of the Workspace has."""

Berth = "Callable[..., tuple[int, dict[str, Any]]]"


@pytest.fixture
def bring(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = cli.run(["import", *map(str, arguments), "--format", "json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return run


def only(told: dict[str, Any]) -> dict[str, Any]:
    (found,) = told["objects"]
    return dict(found)


def reasons(brought: dict[str, Any]) -> str:
    return "\n".join(f"{one['path']}: {one['reason']}; {one['fix']}" for one in brought["differences"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_example_is_copied_byte_for_byte(bring: Any, file: Path, tmp_path: Path) -> None:
    code, told = bring(file, "--out", tmp_path)
    brought = only(told)
    assert code == (1 if file in SAMPLES else 0)
    assert brought["outcome"] == ("to-mend" if file in SAMPLES else "brought")
    assert brought["copied"]
    assert (tmp_path / brought["file"]).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("file", sorted(set(FILES) - SAMPLES), ids=lambda file: file.stem)
def test_a_repository_from_an_example_checks_and_says_what_runs(
    bring: Any, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = only(bring(file, "--out", tmp_path)[1])
    assert " by llama.cpp on " in brought["runs"]
    assert cli.run(["check", str(tmp_path)]) == 0
    assert "1 Workspace in 1 file: all fine" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(SAMPLES), ids=lambda file: file.stem)
def test_a_field_that_nobody_knows_stays_in_the_file_and_is_named(
    bring: Any, file: Path, tmp_path: Path
) -> None:
    brought = only(bring(file, "--out", tmp_path)[1])
    assert "inference.preset.volume: unknown field `volume`" in reasons(brought)
    assert "volume:" in (tmp_path / brought["file"]).read_text()


def test_all_examples_at_once_name_every_file(bring: Any, tmp_path: Path) -> None:
    """Both versions hold the same names; the second of a pair stays, and the report says so."""
    code, told = bring(EXAMPLES, "--out", tmp_path)
    assert code == 1
    assert {Path(one["source"]).name for one in told["objects"]} == {file.name for file in FILES}
    for one in told["objects"]:
        if one["outcome"] == "left":
            assert "of this name comes from" in reasons(one)
    written = {one["file"] for one in told["objects"] if one["file"]}
    assert written == {f"workspaces/{place.name}" for place in (tmp_path / "workspaces").iterdir()}


def test_the_image_of_the_original_is_told_and_kept(bring: Any, tmp_path: Path) -> None:
    brought = only(bring(EXAMPLES / "v0.1.0__examples__kaito_workspace_llama2_70b.yaml")[1])
    assert "inference.preset.presetOptions.image" in reasons(brought)
    assert "not used" in reasons(brought)


def test_the_fleet_file_fits_the_instance_types(bring: Any, tmp_path: Path) -> None:
    source = tmp_path / "g5.yaml"
    source.write_text(WORKSPACE.replace("Standard_NC24ads_A100_v4", "g5.12xlarge"))
    bring(source, "--out", tmp_path / "aws")
    assert yaml.safe_load((tmp_path / "aws" / "berth.yaml").read_text())["cloud"] == "aws"
    source.write_text(WORKSPACE.replace("instanceType: Standard_NC24ads_A100_v4,", ""))
    bring(source, "--out", tmp_path / "own")
    assert yaml.safe_load((tmp_path / "own" / "berth.yaml").read_text())["provisioning"] == "none"


def test_importing_again_changes_nothing(bring: Any, tmp_path: Path) -> None:
    source = EXAMPLES / "v0.1.0__README.md.yaml"
    assert bring(source, "--out", tmp_path)[1]["written"]
    place = tmp_path / "workspaces" / "workspace-falcon-7b.yaml"
    code, told = bring(source, "--out", tmp_path)
    assert (code, told["written"]) == (0, [])
    place.write_text("# mine\n" + place.read_text())
    code, told = bring(source, "--out", tmp_path)
    assert code == 1
    assert "is there already and differs" in reasons(only(told))
    assert place.read_text().startswith("# mine\n")


def test_without_a_folder_nothing_is_written(
    bring: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bring(EXAMPLES / "v0.1.0__README.md.yaml")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_several_objects_keeps_comments_and_names_the_rest(bring: Any, tmp_path: Path) -> None:
    source = tmp_path / "all.yaml"
    source.write_text(f"# licence\n---\n# about it\n{WORKSPACE}---\n{CONFIG_MAP}---\n{RAG_ENGINE}")
    code, told = bring(source, "--out", tmp_path / "fleet")
    assert code == 1
    assert [one["outcome"] for one in told["objects"]] == ["brought", "left", "left"]
    assert (tmp_path / "fleet/workspaces/chat_phi.yaml").read_text() == f"# about it\n{WORKSPACE}"
    assert "retrieval is no part of berth" in reasons(told["objects"][2])


def test_a_configuration_map_alone_is_no_reason_to_fail(bring: Any, tmp_path: Path) -> None:
    source = tmp_path / "all.yaml"
    source.write_text(f"{WORKSPACE}---\n{CONFIG_MAP}")
    code, told = bring(source)
    assert code == 0
    assert "no object of KAITO's" in reasons(told["objects"][1])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "apiVersion: kaito.sh/v1beta1\nkind: Workspace\nmetadata: {name: {{ .Values.name }}}\n",
            "helm template",
        ),
        ("apiVersion: kaito.sh/v1beta1\nkind: [\n", "no YAML"),
        ("apiVersion: kaito.sh/v1beta1\nkind: Workspace\nmetadata: {name: ../out}\n", "no file name"),
        ("apiVersion: kaito.sh/v1beta1\nkind: Workspace\nmetadata: {}\n", "no file name"),
        ("apiVersion: kaito.sh/v1beta1\nkind: Novelty\nmetadata: {name: x}\n", "not known"),
    ],
    ids=["a chart's template", "broken YAML", "a name that leaves the folder", "no name", "an unknown kind"],
)
def test_what_cannot_be_read_stays_and_is_named(bring: Any, tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    code, told = bring(tmp_path, "--out", tmp_path / "fleet")
    assert code == 1
    assert only(told)["outcome"] == "left"
    assert reason in reasons(only(told))


@pytest.mark.parametrize(
    "arguments", [[], ["--cluster", "x.yaml"], ["missing.yaml"]], ids=["nothing", "both", "no such file"]
)
def test_what_cannot_run_is_told_with_two(
    bring: Any, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bring(*arguments) == (2, {})


def test_a_folder_without_anything_of_kaito_is_told_with_two(bring: Any, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(CONFIG_MAP)
    assert bring(tmp_path) == (2, {})


def test_what_a_cluster_wrote_does_not_come_along(bring: Any, tmp_path: Path) -> None:
    written = yaml.safe_load(WORKSPACE)
    del written["resource"]["instanceType"]  # as KAITO filled it in
    live = yaml.safe_load(WORKSPACE)
    live["resource"]["count"] = 1
    live["metadata"] |= {
        "uid": "1",
        "resourceVersion": "2",
        "finalizers": ["workspace.finalizer.kaito.sh"],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": json.dumps(written),
            "workspace.kaito.io/revision": "1",
            "kaito.sh/enablelb": "True",
        },
    }
    live["status"] = {"workerNodes": ["a"]}
    listed = {"apiVersion": "v1", "kind": "List", "items": [live]}
    (tmp_path / "list.json").write_text(json.dumps(listed, sort_keys=True))
    code, told = bring(tmp_path / "list.json", "--out", tmp_path / "fleet")
    assert code == 0
    brought = only(told)
    found = yaml.safe_load((tmp_path / "fleet" / brought["file"]).read_text())
    assert not brought["copied"]
    assert list(found) == ["apiVersion", "kind", "metadata", "resource", "inference"]
    assert found == {
        **yaml.safe_load(WORKSPACE),
        "metadata": {**written["metadata"], "annotations": {"kaito.sh/enablelb": "True"}},
    }
    assert "resource.count: 1 is KAITO's default and nobody wrote it" in reasons(brought)


def test_a_default_that_somebody_may_have_written_stays(bring: Any, tmp_path: Path) -> None:
    live = yaml.safe_load(WORKSPACE)
    live["resource"]["count"] = 1
    live["metadata"]["uid"] = "1"
    (tmp_path / "one.json").write_text(json.dumps(live))
    brought = only(bring(tmp_path / "one.json", "--out", tmp_path / "fleet")[1])
    assert yaml.safe_load((tmp_path / "fleet" / brought["file"]).read_text())["resource"]["count"] == 1


def test_a_set_becomes_one_workspace_and_stands_for_its_children(bring: Any, tmp_path: Path) -> None:
    child = yaml.safe_load(WORKSPACE)
    child["metadata"] |= {
        "name": "phi-0",
        "ownerReferences": [
            {"apiVersion": "kaito.sh/v1beta1", "kind": "InferenceSet", "name": "phi", "uid": "1"}
        ],
    }
    (tmp_path / "set.yaml").write_text(f"{INFERENCE_SET}---\n{yaml.safe_dump(child)}")
    code, told = bring(tmp_path / "set.yaml", "--out", tmp_path / "fleet")
    assert code == 0
    assert [one["outcome"] for one in told["objects"]] == ["brought", "left"]
    assert "made it" in reasons(told["objects"][1])
    found = workspaces.parse(yaml.safe_load((tmp_path / "fleet/workspaces/chat_phi.yaml").read_text()))
    assert (found.inference.llamacpp.replicas, found.resource.instance_type) == (
        3,
        "Standard_NC24ads_A100_v4",
    )
    assert found.resource.match_labels == {"apps": "phi"}
    assert "spec.autoUpgrade" in reasons(told["objects"][0])
    assert "spec.novelty: `novelty` is not understood" in reasons(told["objects"][0])


def test_training_is_left_with_the_reason(bring: Any, tmp_path: Path) -> None:
    (tmp_path / "tuning.yaml").write_text(
        WORKSPACE.replace("inference:", "tuning: {method: lora, preset: {name: phi-4}}\nno:").replace(
            "no:", "x-inference:"
        )
    )
    code, told = bring(tmp_path / "tuning.yaml")
    assert code == 1
    assert "does not train" in reasons(only(told))


WORKSPACE = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: phi, namespace: chat}
resource: {instanceType: Standard_NC24ads_A100_v4, labelSelector: {matchLabels: {apps: phi}}}
inference:
  preset: {name: phi-4}   # the small one
"""
INFERENCE_SET = """\
apiVersion: kaito.sh/v1beta1
kind: InferenceSet
metadata: {name: phi, namespace: chat}
spec:
  replicas: 3
  labelSelector: {matchLabels: {apps: phi}}
  autoUpgrade: {enabled: true}
  novelty: 1
  template:
    resource: {instanceType: Standard_NC24ads_A100_v4}
    inference: {preset: {name: phi-4}}
"""
RAG_ENGINE = """\
apiVersion: kaito.sh/v1beta1
kind: RAGEngine
metadata: {name: rag}
spec: {inferenceService: {url: "http://phi/v1"}}
"""
CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {inference_config.yaml: "vllm: {}"}
"""


ODD: list[Any] = [
    None,
    [],
    {},
    "text",
    7,
    True,
    [[]],
    {"a": None},
    ["x", {"name": 3}],
    "../../out",
    "a/b",
    "\u0000",
]
FIELDS = [
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "annotations"),
    ("metadata", "labels"),
    ("metadata", "ownerReferences"),
    ("resource",),
    ("inference",),
    ("inference", "preset"),
    ("spec",),
    ("spec", "template"),
    ("spec", "replicas"),
    ("spec", "template", "inference"),
    ("kind",),
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(field))
def test_odd_values_end_in_a_report_and_nothing_leaves_the_folder(
    bring: Any, tmp_path: Path, field: tuple[str, ...]
) -> None:
    documents = []
    for value in ODD:
        for text in (WORKSPACE, INFERENCE_SET):
            document = yaml.safe_load(text)
            document["metadata"]["uid"] = "1"
            place: Any = document
            for part in field[:-1]:
                place = place.get(part) or place.setdefault(part, {})
            place[field[-1]] = value
            documents.append(document)
    source = tmp_path / "source"
    source.mkdir()
    (source / "odd.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    code, told = bring(source, "--out", tmp_path / "fleet")
    assert code in (0, 1)
    assert len(told["objects"]) == len(documents)
    assert {place.name for place in tmp_path.iterdir()} - {"fleet"} == {"source"}
    for one in told["objects"]:
        if one["file"] is not None:
            assert (tmp_path / "fleet" / one["file"]).resolve().is_relative_to(tmp_path / "fleet/workspaces")


def test_a_workspace_that_stands_in_another_file_is_not_written_twice(bring: Any, tmp_path: Path) -> None:
    out = tmp_path / "fleet"
    (out / "workspaces").mkdir(parents=True)
    (out / "berth.yaml").write_text("cloud: azure\n")
    here = out / "workspaces" / "by-hand.yaml"
    here.write_text(WORKSPACE)
    code, told = bring(here, "--out", out)
    assert (code, told["written"]) == (0, [])
    assert f"{here} holds it already" in reasons(only(told))
    other = tmp_path / "other.yaml"
    other.write_text(here.read_text().replace("Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4"))
    code, told = bring(other, "--out", out)
    assert (code, told["written"]) == (1, [])
    assert f"{here} holds it already and differs, so it stays as it is; remove it there" in reasons(
        only(told)
    )
    assert cli.run(["render", str(out), "--out", str(tmp_path / "rendered")]) == 0


def test_what_is_there_already_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(EXAMPLES / "v0.1.0__README.md.yaml")
    cli.run(["import", source, "--out", str(tmp_path)])
    assert "workspace-falcon-7b.yaml, copied as it is\n" in capsys.readouterr().out
    cli.run(["import", source, "--out", str(tmp_path)])
    told = capsys.readouterr()
    assert "workspace-falcon-7b.yaml, there already\n" in told.out
    assert f"{tmp_path}: nothing written; next: berth check {tmp_path}\n" in told.err


def test_where_nothing_comes_over_no_repository_is_begun(bring: Any, tmp_path: Path) -> None:
    (tmp_path / "rag.yaml").write_text("apiVersion: kaito.sh/v1beta1\nkind: RAGEngine\nmetadata: {name: a}\n")
    code, told = bring(tmp_path / "rag.yaml", "--out", tmp_path / "fleet")
    assert (code, told["written"]) == (1, [])
    assert not (tmp_path / "fleet").exists()


def test_the_default_namespace_is_the_same_as_none_in_the_fleet(bring: Any, tmp_path: Path) -> None:
    out, source = tmp_path / "fleet", tmp_path / "source.yaml"
    source.write_text(WORKSPACE.replace(", namespace: chat", ""))
    bring(source, "--out", out)
    source.write_text(WORKSPACE.replace("namespace: chat", "namespace: default"))
    code, told = bring(source, "--out", out)
    assert (code, told["written"]) == (1, [])
    assert "workspaces/phi.yaml holds it already and differs" in reasons(only(told))
