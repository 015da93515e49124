"""cdk8s makes the objects, and what it would change in silence is an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from generator import bridge, synth


def thing(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **fields}


@pytest.mark.parametrize(
    "data",
    [
        {"empty": {}, "list": [], "text": "", "zero": 0, "no": False},
        {"unicode": "é 🚢 \u2028", "line": "a\nb\n", "dollar": "${A} $(B) {{ c }}"},
        {"a.b/c": {"d-e": [1, -2, 0.5, [[]], {"f": [{}]}]}},
        {"yes": "no", "number": "010", "date": "2026-01-01", "tilde": "~"},
    ],
    ids=["what is empty", "signs of all kinds", "keys and nesting", "what YAML 1.1 takes for something else"],
)
def test_objects_come_back_as_they_were_given(data: dict[str, Any]) -> None:
    [[made]] = list(bridge.made([bridge.Chart("c", [thing(data=data)])]))
    assert made == thing(data=data)


@pytest.mark.parametrize(
    "data",
    [{"gone": None}, {"large": 2**60 + 1}],
    ids=["a null", "a number that JavaScript can't hold"],
)
def test_what_cdk8s_changes_is_an_error(data: dict[str, Any]) -> None:
    with pytest.raises(bridge.BridgeError, match="ConfigMap a of c differently"):
        list(bridge.made([bridge.Chart("c", [thing(data=data)])]))


def test_what_cdk8s_refuses_is_an_error() -> None:
    with pytest.raises(bridge.BridgeError, match="could not make the objects"):
        list(bridge.made([bridge.Chart("same", [thing()]), bridge.Chart("same", [thing()])]))


def test_many_charts_keep_their_order() -> None:
    charts = [bridge.Chart(f"c{index}", [thing(data={"n": str(index)})]) for index in range(150)]
    assert [objects[0]["data"]["n"] for objects in bridge.made(charts)] == [str(n) for n in range(150)]


def test_two_objects_of_one_name_are_told() -> None:
    with pytest.raises(synth.CollisionError, match="two objects of c would be one file"):
        synth.render([bridge.Chart("c", [thing(), thing(data={})])])


def test_objects_of_one_name_in_two_folders_are_two_files() -> None:
    made = synth.render([bridge.Chart(name, [thing()]) for name in ("a", "b")])
    assert {folder: sorted(files) for folder, files in made.items()} == {
        "a": ["configmap-a.yaml", "kustomization.yaml"],
        "b": ["configmap-a.yaml", "kustomization.yaml"],
    }


@pytest.mark.slow
def test_a_home_that_can_not_be_written_is_no_obstacle(tmp_path: Path) -> None:
    script = (
        "from generator import bridge\n"
        "one = {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'a'}}\n"
        "print(list(bridge.made([bridge.Chart('c', [one])])) == [[one]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOME": "/proc/nowhere", "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["generator.cli", "generator.render", "generator.charts", "generator.study"]
)
def test_nothing_starts_node_before_it_must(module: str) -> None:
    script = f"import sys, {module}\nprint({{'cdk8s', 'jsii', 'fastapi', 'kr8s'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: no file size limits here")
def test_a_full_temporary_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(
        "apiVersion: kaito.sh/v1beta1\nkind: Workspace\nmetadata: {name: one}\n"
        "resource: {instanceType: Standard_NC24ads_A100_v4, labelSelector: {matchLabels: {apps: one}}}\n"
        "inference: {preset: {name: falcon-7b}}\n"
    )
    # A limit of 16 KiB a file stands for the disk: jsii unpacks its own program into a temporary folder.
    limited = 'ulimit -f 16; exec "$@" render one.yaml --out out'
    done = subprocess.run(
        ["/bin/bash", "-c", limited, "bash", sys.executable, "-m", "generator"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cdk8s could not start with Node ")
    assert line.endswith("File too large")
    assert not (tmp_path / "out").exists()
