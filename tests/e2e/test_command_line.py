"""The command line's questions to a real cluster, through kubectl: what it finds, and what it brings over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth import workspaces
from generator import cli
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Kubectl

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")


@pytest.fixture
def berth(
    cluster: Kubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """The command line as somebody would use it: kubectl in PATH and a kubeconfig."""
    monkeypatch.setenv("PATH", f"{cluster.program.parent}:{Path('/usr/bin')}:{Path('/bin')}")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = cli.run([*map(str, arguments), "--format", "json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return run


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "fleet", tmp_path / "fleet")
    return tmp_path / "fleet"


@pytest.fixture
def installed(cluster: Kubectl, repository: Path) -> Iterator[None]:
    """The platform as the fleet file makes it; nothing runs its pods here."""
    cluster("create", "namespace", frame.NAMESPACE, check=False)
    fleet = str(repository / "berth.yaml")
    assert cli.run(["install", "--out", str(repository / "platform"), "--fleet", fleet]) == 0
    try:
        cluster("apply", "--server-side", "--force-conflicts", "-k", str(repository / "platform"))
        yield
    finally:
        for kind in CONFIGURATIONS:
            cluster("delete", kind, frame.WEBHOOK, "--ignore-not-found")
        for name in (frame.WEBHOOK, frame.WATCHER):
            cluster("-n", frame.NAMESPACE, "delete", "deployment", name, "--ignore-not-found")
        cluster("-n", frame.NAMESPACE, "delete", "configmap", frame.FLEET, "--ignore-not-found")


def told(found: dict[str, Any], what: str) -> tuple[str, str]:
    states = [(one["state"], one["why"]) for one in found["findings"] if one["what"] == what]
    assert len(states) == 1, found
    return states[0]


def test_the_doctor_sees_that_nothing_is_installed(berth: Any, repository: Path) -> None:
    code, found = berth("doctor", repository, "--no-repository", "--cluster")
    assert code == 1
    assert told(found, "webhook") == ("error", "it is not installed")
    assert told(found, "ValidatingWebhookConfiguration") == ("error", "it is not there")
    assert told(found, "fleet file") == ("error", "its ConfigMap is not there")
    assert told(found, "node provisioner")[0] == "error"
    assert told(found, "node class")[0] == "error"


def test_the_doctor_sees_what_is_installed_and_does_not_run(
    berth: Any, repository: Path, installed: None
) -> None:
    code, found = berth("doctor", repository, "--cluster")
    assert code == 1
    assert told(found, "Workspace CRD") == ("fine", "established, serves v1alpha1 and v1beta1")
    assert told(found, "webhook")[1].startswith("no replica of 2 is ready")
    assert told(found, "watcher")[1].startswith("no replica of 2 is ready")
    assert told(found, "ValidatingWebhookConfiguration")[1].startswith("a webhook has no caBundle")
    assert told(found, "admission")[1].startswith("the API server can't reach the webhook")
    assert [one for one in found["findings"] if one["state"] == "fine" and one["what"] == "fleet file"][1:]


def test_who_may_see_nothing_is_told_so(
    berth: Any, cluster: Kubectl, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"][0]["user"]["as"] = "nobody"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    _, found = berth("doctor", repository, "--no-repository", "--cluster")
    assert told(found, "Kubernetes")[0] == "fine"
    assert told(found, "webhook")[0] == "unknown"
    assert "forbidden" in told(found, "webhook")[1]


def test_workspaces_of_a_cluster_come_over(
    berth: Any, cluster: Kubectl, namespace: str, tmp_path: Path
) -> None:
    cluster("-n", namespace, "apply", "-f", "-", stdin=WORKSPACE)
    code, found = berth("import", "--cluster", "--out", tmp_path / "fleet")
    brought = [one for one in found["objects"] if one["namespace"] == namespace]
    assert [one["outcome"] for one in brought] == ["brought"]
    assert code in (0, 1)  # other tests' Workspaces may be there
    text = (tmp_path / "fleet" / brought[0]["file"]).read_text()
    written = workspaces.parse(yaml.safe_load(text))
    assert (written.name, written.namespace) == ("come-over", namespace)
    for name in ("uid", "managedFields", "last-applied", "status"):
        assert name not in text


WORKSPACE = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: come-over
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector:
    matchLabels: {apps: phi}
inference:
  preset: {name: phi-4-mini-instruct}
"""
