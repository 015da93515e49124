"""From an earlier berth to this one on a real API server: nothing is refused, lost or restarted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from generator import cli, platform
from generator.platform import frame, helm
from tests.e2e.test_removal import finish_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Kubectl

ROOT = Path(__file__).resolve().parents[2]
EARLIER = ROOT / "tests" / "data" / "earlier"
CONFIGURATIONS = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
HOME = "fleet-of-upgrades"
WORKLOADS = "deployments,workspaces,services,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets"


def documents(text: str) -> list[Any]:
    return [one for one in yaml.safe_load_all(text) if one]


def apply(cluster: Kubectl, things: list[Any]) -> None:
    """As Argo CD and Flux do; nobody answers webhooks here, so their configurations are left for the end."""
    text = "---\n".join(json.dumps(one) + "\n" for one in things)
    cluster("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def fleet(text: str) -> list[Any]:
    """A fleet's objects, all in one namespace of the test's own."""
    found = documents(text)
    for one in found:
        one["metadata"]["namespace"] = HOME
    return found


def held(cluster: Kubectl) -> dict[str, Any]:
    found = cluster.get(WORKLOADS, "-n", HOME)["items"]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


def without_configurations(things: list[Any]) -> list[Any]:
    return [one for one in things if one["kind"] not in CONFIGURATIONS]


@pytest.fixture
def earlier(kubectl: Kubectl) -> Iterator[Kubectl]:
    """A cluster where the earlier berth runs the example fleet."""
    for name in (frame.NAMESPACE, HOME):
        kubectl("create", "namespace", name, check=False)
    old = without_configurations(documents((EARLIER / "platform.yaml").read_text()))
    crds = [one for one in old if one["kind"] == "CustomResourceDefinition"]
    apply(kubectl, crds)
    kubectl("wait", "--for=condition=Established", "crd/workspaces.kaito.sh", "--timeout=30s")
    apply(kubectl, old)
    apply(kubectl, fleet((EARLIER / "fleet.yaml").read_text()))
    yield kubectl
    remove_platform(kubectl)
    kubectl("delete", WORKLOADS, "--all", "-n", HOME)


def remove_platform(cluster: Kubectl) -> None:
    for kind in CONFIGURATIONS:
        cluster("delete", kind, frame.WEBHOOK, "--ignore-not-found")
    rest = [
        one for one in platform.objects(frame.Settings())
        if one["kind"] not in (*CONFIGURATIONS, "CustomResourceDefinition", "Namespace")
    ]  # fmt: skip
    text = "---\n".join(json.dumps(one) + "\n" for one in rest)
    cluster("delete", "--ignore-not-found", "-f", "-", stdin=text)
    finish_namespace(cluster)


def test_an_upgrade_of_the_platform_touches_no_workspace(earlier: Kubectl, tmp_path: Path) -> None:
    before = held(earlier)
    assert len([name for name in before if name.startswith("Workspace/")]) == 2
    out = tmp_path / "platform"
    assert cli.run(["install", "--out", str(out)]) == 0
    earlier("apply", "--server-side", "--force-conflicts", "-k", str(out))
    assert held(earlier) == before
    assert earlier.get("deployment", frame.WATCHER, "-n", frame.NAMESPACE)["spec"]["replicas"] == 2


def test_an_upgrade_of_the_fleet_changes_no_pod_template(earlier: Kubectl) -> None:
    before = held(earlier)
    apply(earlier, without_configurations(platform.objects(frame.Settings())))
    folder = ROOT / "examples" / "fleet" / "rendered"
    text = "".join(f"---\n{place.read_text()}" for place in sorted(folder.glob("*/*-*.yaml")))
    apply(earlier, fleet(text))
    after = held(earlier)
    assert set(before) <= set(after)
    for name, one in before.items():
        assert after[name]["metadata"]["uid"] == one["metadata"]["uid"]
        if name.startswith("Deployment/"):
            assert after[name]["spec"] == one["spec"]
        if name.startswith("Workspace/"):
            assert (after[name]["resource"], after[name]["inference"]) == (one["resource"], one["inference"])


def test_the_earlier_platforms_files_are_taken_over_by_a_new_render(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an earlier render wrote into the folder and this one does not is removed."""
    out = tmp_path / "platform"
    assert cli.run(["install", "--out", str(out)]) == 0
    left = out / "webhook" / "issuer-of-earlier-days.yaml"
    left.write_text(f"{platform.HEADER}kind: Issuer\n")
    assert cli.run(["install", "--out", str(out), "--check"]) == 1
    assert f"{left}: no longer wanted" in capsys.readouterr().out
    assert cli.run(["install", "--out", str(out)]) == 0
    assert not left.exists()


@pytest.fixture
def helm_program() -> str:
    found = shutil.which("helm", path=f"{os.environ.get('PATH', '')}:/opt/helm/bin")
    if found is None:
        pytest.skip("NOT TESTED with Helm itself: helm is neither in PATH nor in /opt/helm/bin")
    return found


def test_helm_installs_upgrades_and_leaves_every_workspace(
    kubectl: Kubectl, helm_program: str, tmp_path: Path
) -> None:
    chart = tmp_path / "chart"
    for name, text in helm.files(frame.Settings()).items():
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(text)

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [helm_program, *arguments, "--namespace", "charts", "--kubeconfig", str(kubectl.kubeconfig)],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    kubectl("delete", "crd", "workspaces.kaito.sh", "--ignore-not-found")
    kubectl("delete", "clusterroles", "berth-workspaces-view", "berth-workspaces-edit", "--ignore-not-found")
    for name in ("charts", HOME):
        kubectl("create", "namespace", name, check=False)
    run("install", "berth", str(chart))
    try:
        kubectl("wait", "--for=condition=Established", "crd/workspaces.kaito.sh", "--timeout=30s")
        assert kubectl.get("deployment", frame.WATCHER, "-n", "charts")["spec"]["replicas"] == 2
        run("upgrade", "berth", str(chart), "--set", "replicas=3")
        assert kubectl.get("deployment", frame.WATCHER, "-n", "charts")["spec"]["replicas"] == 3
        for kind in CONFIGURATIONS:
            kubectl("delete", kind, frame.WEBHOOK)
        apply(
            kubectl,
            [one for one in fleet((EARLIER / "fleet.yaml").read_text()) if one["kind"] == "Workspace"],
        )
        before = kubectl.get("workspaces", "-n", HOME)["items"]
        assert before
    finally:
        run("uninstall", "berth")
    assert kubectl.get("workspaces", "-n", HOME)["items"] == before
    gone = kubectl("get", "deployment", frame.WATCHER, "-n", "charts", check=False)
    assert "NotFound" in gone.err
    kubectl("delete", "workspaces", "--all", "-n", HOME)
    kubectl(
        "annotate", "crd", "workspaces.kaito.sh", "helm.sh/resource-policy-", "meta.helm.sh/release-name-"
    )
