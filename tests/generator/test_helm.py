"""The Helm chart holds the very objects of the Kustomize base: rendered by Helm itself where it is installed.

Without it a reader of the few expressions that the chart uses stands in, and says that it did.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth.fleet import Fleet, Images, Monitoring
from generator import cli, platform
from generator.platform import frame, helm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Values = dict[str, Any]

FLEETS = {
    "defaults": frame.Settings(),
    "Argo CD": frame.Settings(Fleet(gitops="argocd")),
    "Prometheus": frame.Settings(Fleet(monitoring=Monitoring(pod_monitor=True))),
    "cert-manager": frame.Settings(certificates="cert-manager"),
    "existing nodes, nothing but talk": frame.Settings(Fleet(provisioning="none"), dry_run=True),
    "no watcher": frame.Settings(watcher=False),
    "braces and the namespace's name in the fleet file": frame.Settings(
        text='# {{ not a template }}, for "berth-system"\ncloud: azure\n'
    ),
    "own images": frame.Settings(Fleet(images=Images(webhook="example.com/w:1", pull_secrets=("key",)))),
}


def program() -> str | None:
    return shutil.which("helm", path=f"{os.environ.get('PATH', '')}:/opt/helm/bin")


def by_helm(chart: Path, namespace: str, values: Values) -> list[Any]:
    found = program()
    assert found is not None
    (chart.parent / "mine.yaml").write_text(yaml.safe_dump(values))
    command: list[str | Path] = [
        found,
        "template",
        "berth",
        chart,
        "--kube-version",
        "1.36.0",
        "--namespace",
        namespace,
        "--values",
        chart.parent / "mine.yaml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


def by_hand(chart: Path, namespace: str, values: Values) -> list[Any]:
    """Read the expressions that the chart uses, and stop at any other."""
    merged = {**yaml.safe_load((chart / "values.yaml").read_text()), **values}

    def value(expression: str) -> str:
        if expression == '"{{"':
            return "{{"
        if expression == ".Release.Namespace":
            return namespace
        found: Any = merged
        for part in expression.removeprefix("int ").removeprefix(".Values.").split("."):
            found = found[part]
        return str(found)

    def holds(condition: str) -> bool:
        if condition == ".Values.createNamespace":
            return bool(merged["createNamespace"])
        found = re.fullmatch(r'(eq|ne) \.Values\.certificates "cert-manager"', condition)
        assert found is not None, condition
        return bool((found[1] == "eq") == (merged["certificates"] == "cert-manager"))

    things = []
    for place in sorted((chart / "templates").rglob("*.yaml")):
        shown, lines = True, []
        for line in place.read_text().splitlines():
            control = re.fullmatch(r"\{\{- (if|else|end) ?(.*?) ?\}\}", line)
            if control is not None:
                shown = {"if": holds(control[2]) if control[2] else True, "else": not shown, "end": True}[
                    control[1]
                ]
            elif shown:
                lines.append(re.sub(r'\{\{ (.*?"\{\{"|[^"]*?) \}\}', lambda found: value(found[1]), line))
        things += [thing for thing in yaml.safe_load_all("\n".join(lines) + "\n") if thing]
    return things


def renderers() -> list[Any]:
    reason = "NOT TESTED with Helm itself: helm is neither in PATH nor in /opt/helm/bin"
    skipped = pytest.mark.skipif(program() is None, reason=reason)
    return [pytest.param(by_helm, id="Helm", marks=skipped), pytest.param(by_hand, id="our reader")]


def written(settings: frame.Settings, folder: Path) -> Path:
    for name, text in helm.files(settings).items():
        place = folder / "chart" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder / "chart"


def sorted_by_name(things: list[Any]) -> list[Any]:
    return sorted(things, key=lambda thing: (thing["kind"], thing["metadata"]["name"]))


def without_keeping(things: list[Any]) -> list[Any]:
    """Take away the one annotation that only a chart has."""
    for thing in things:
        metadata = thing["metadata"]
        if (
            metadata.get("annotations", {}).pop("helm.sh/resource-policy", None)
            and not metadata["annotations"]
        ):
            del metadata["annotations"]
    return things


def base(settings: frame.Settings) -> list[Any]:
    return list(yaml.safe_load_all(platform.stream(settings)))


@pytest.mark.parametrize("render", renderers())
@pytest.mark.parametrize("case", FLEETS)
def test_the_chart_is_the_kustomize_base(
    case: str, render: Callable[[Path, str, Values], list[Any]], tmp_path: Path
) -> None:
    chart = written(FLEETS[case], tmp_path)
    found = without_keeping(render(chart, frame.NAMESPACE, {"createNamespace": True}))
    assert sorted_by_name(found) == sorted_by_name(base(FLEETS[case]))


@pytest.mark.parametrize("render", renderers())
def test_values_change_what_they_name_and_nothing_else(
    render: Callable[[Path, str, Values], list[Any]], tmp_path: Path
) -> None:
    chart = written(frame.Settings(), tmp_path)
    values = {"replicas": 3, "images": {"webhook": "a:1", "watcher": "b:2"}, "certificates": "cert-manager"}
    found = without_keeping(render(chart, "elsewhere", {**values, "createNamespace": True}))
    wanted = base(frame.Settings(certificates="cert-manager"))
    for thing in wanted:
        if thing["kind"] == "Deployment":
            thing["spec"]["replicas"] = 3
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            container["image"] = values["images"][container["name"]]  # type: ignore[index]
    text = yaml.safe_dump_all(sorted_by_name(wanted)).replace("berth-system", "elsewhere")
    other = yaml.safe_dump_all(sorted_by_name(found)).replace("berth-system", "elsewhere")
    assert other == text


@pytest.mark.parametrize("render", renderers())
def test_the_namespace_is_helms_unless_asked_for(
    render: Callable[[Path, str, Values], list[Any]], tmp_path: Path
) -> None:
    found = render(written(frame.Settings(), tmp_path), "elsewhere", {})
    assert not [thing for thing in found if thing["kind"] == "Namespace"]
    priority = [thing["metadata"]["name"] for thing in found if thing["kind"] == "PriorityClass"]
    assert priority == ["berth-system"]
    assert {thing["metadata"]["namespace"] for thing in found if "namespace" in thing["metadata"]} == {
        "elsewhere"
    }


def test_uninstalling_keeps_the_workspaces(tmp_path: Path) -> None:
    chart = written(frame.Settings(), tmp_path)
    (crd,) = (thing for thing in by_hand(chart, "x", {}) if thing["kind"] == "CustomResourceDefinition")
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.skipif(program() is None, reason="NOT TESTED with Helm itself: helm is not installed")
def test_helm_finds_no_fault_and_refuses_unknown_values(tmp_path: Path) -> None:
    chart = written(frame.Settings(), tmp_path)
    lint = subprocess.run(
        [str(program()), "lint", "--strict", chart], capture_output=True, text=True, check=False
    )
    assert lint.returncode == 0, lint.stdout
    refused = subprocess.run(
        [str(program()), "template", "berth", chart, "--kube-version", "1.36.0", "--set", "replicsa=3"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "replicsa" in refused.stderr


def test_the_command_writes_a_chart_and_checks_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["install", "--format", "helm", "--out", str(tmp_path / "chart")]
    assert cli.run(arguments) == 0
    assert yaml.safe_load((tmp_path / "chart/Chart.yaml").read_text())["name"] == "berth"
    assert cli.run([*arguments, "--check"]) == 0
    (tmp_path / "chart/values.yaml").write_text("replicas: 1\n")
    assert cli.run([*arguments, "--check"]) == 1
    assert cli.run(["install", "--format", "helm", "--out", "-"]) == 2
