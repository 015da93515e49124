"""`berth install --remove` on a real API server: in the right order, and no Workspace is lost or touched."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from generator import cli, platform
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Kubectl

pytestmark = pytest.mark.timeout(300)

FOREIGN = "example.com/theirs"
"""Somebody else's finalizer."""


@pytest.fixture
def berth(
    cluster: Kubectl, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The command line as somebody would use it: kubectl in PATH and a kubeconfig."""
    monkeypatch.setenv("PATH", f"{cluster.program.parent}:{Path('/usr/bin')}:{Path('/bin')}")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setattr("generator.platform.removal.POLL_SECONDS", 0.2)

    def run(*arguments: str) -> tuple[int, str]:
        code = cli.run(["install", "--remove", *arguments])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def installed(cluster: Kubectl, namespace: str, berth: object) -> Iterator[str]:
    """The platform, and in a namespace of the test one Workspace that has nodes and its pods' Deployment."""
    cluster("create", "namespace", frame.NAMESPACE, check=False)
    text = platform.stream(frame.Settings())
    cluster("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
        cluster("delete", kind, frame.WEBHOOK)
    cluster("-n", namespace, "create", "-f", "-", stdin=json.dumps(workspace("serving")))
    cluster("-n", namespace, "create", "deployment", "serving", "--image=example.com/serving:1")
    cluster("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    yield namespace
    names = cluster.get("workspaces", "-n", namespace)["items"]
    for one in names:
        name = one["metadata"]["name"]
        cluster("-n", namespace, "patch", "workspace", name, "--type=merge",
                '--patch={"metadata":{"finalizers":null}}', check=False)  # fmt: skip
    cli.run(["install", "--remove", "--wait", "0"])
    finish_namespace(cluster)


def finish_namespace(cluster: Kubectl) -> None:
    """Do what the namespace controller would: an ending namespace takes nothing new."""
    found = cluster("get", "namespace", frame.NAMESPACE, "-o", "json", check=False)
    if found.code == 0 and found.json()["status"]["phase"] == "Terminating":
        body = {**found.json(), "spec": {"finalizers": []}}
        path = f"/api/v1/namespaces/{frame.NAMESPACE}/finalize"
        cluster("replace", "--raw", path, "-f", "-", stdin=json.dumps(body))


def workspace(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "finalizers": [FOREIGN, labels.FINALIZER]},
        "resource": {"labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "falcon-7b"}},
    }


def names(cluster: Kubectl) -> set[str]:
    """Everything of the platform that is there, but what has to stay."""
    kinds = (
        "deployments,services,configmaps,networkpolicies,poddisruptionbudgets,serviceaccounts,"
        "roles,rolebindings"
    )
    found = cluster.get(kinds, "-n", frame.NAMESPACE)["items"]
    wide = cluster.get(
        "clusterroles,clusterrolebindings,priorityclasses,validatingwebhookconfigurations,"
        "mutatingwebhookconfigurations"
    )["items"]
    return {
        f"{one['kind']}/{one['metadata']['name']}"
        for one in [*found, *wide]
        if one["metadata"]["name"].startswith("berth-") and not one["metadata"].get("deletionTimestamp")
    }


def test_a_dry_run_prints_the_commands_and_changes_nothing(
    berth: Any, cluster: Kubectl, installed: str
) -> None:
    before = names(cluster)
    assert len(before) > 15
    code, out = berth("--dry-run")
    assert code == 0
    commands = [line.strip() for line in out.splitlines() if line.strip().startswith("kubectl ")]
    order = ["validatingwebhookconfiguration", "scale deployment berth-watcher", "patch workspaces.kaito.sh",
             "deployments.apps/berth-webhook", "serviceaccounts/berth-webhook",
             "delete namespace"]  # fmt: skip
    found = [next(index for index, line in enumerate(commands) if part in line) for part in order]
    assert found == sorted(found)
    assert names(cluster) == before
    assert labels.FINALIZER in cluster.get("workspace", "serving", "-n", installed)["metadata"]["finalizers"]


def test_everything_goes_but_workspaces_and_what_serves_them(
    berth: Any, cluster: Kubectl, installed: str
) -> None:
    before = cluster.get("workspace", "serving", "-n", installed)
    workload = cluster.get("deployment", "serving", "-n", installed)
    code, out = berth()
    assert code == 0, out
    finish_namespace(cluster)
    assert names(cluster) == {"ClusterRole/berth-workspaces-edit", "ClusterRole/berth-workspaces-view"}
    after = cluster.get("workspace", "serving", "-n", installed)
    assert after["metadata"]["finalizers"] == [FOREIGN]
    for field in ("uid", "generation"):
        assert after["metadata"][field] == before["metadata"][field]
    assert (after["resource"], after["inference"]) == (before["resource"], before["inference"])
    assert cluster.get("deployment", "serving", "-n", installed) == workload
    assert "What stays: the CRD workspaces.kaito.sh" in out


def test_what_was_removed_can_be_removed_again(berth: Any, installed: str) -> None:
    assert berth()[0] == 0
    assert berth()[0] == 0


def test_a_namespace_that_holds_nothing_else_goes(berth: Any, cluster: Kubectl, installed: str) -> None:
    cluster("-n", frame.NAMESPACE, "delete", "configmaps,secrets", "--all")
    assert berth()[0] == 0
    assert cluster.get("namespace", frame.NAMESPACE)["status"]["phase"] == "Terminating"


def test_a_namespace_that_holds_more_stays(berth: Any, cluster: Kubectl, installed: str) -> None:
    cluster("-n", frame.NAMESPACE, "create", "configmap", "theirs")
    code, out = berth()
    assert code == 0
    assert "stays, since it holds more: ConfigMap theirs" in out
    assert cluster.get("namespace", frame.NAMESPACE)["status"]["phase"] == "Active"
    cluster("-n", frame.NAMESPACE, "delete", "configmap", "theirs")


def test_the_watcher_stays_while_a_workspace_waits_for_its_nodes(
    berth: Any, cluster: Kubectl, installed: str
) -> None:
    cluster("-n", installed, "delete", "workspace", "serving", "--wait=false")
    code, out = berth("--wait", "1")
    assert code == 1
    assert f"still being deleted: {installed}/serving" in out
    assert "Deployment/berth-watcher" in names(cluster)
    assert "ValidatingWebhookConfiguration/berth-webhook" not in names(cluster)
    assert labels.FINALIZER in cluster.get("workspace", "serving", "-n", installed)["metadata"]["finalizers"]


def test_it_goes_on_as_soon_as_the_watcher_is_done(berth: Any, cluster: Kubectl, installed: str) -> None:
    cluster("-n", installed, "delete", "workspace", "serving", "--wait=false")

    def finish() -> None:
        time.sleep(2)
        cluster("-n", installed, "patch", "workspace", "serving", "--type=merge",
                f'--patch={{"metadata":{{"finalizers":["{FOREIGN}"]}}}}')  # fmt: skip

    watcher = threading.Thread(target=finish)
    watcher.start()
    code, out = berth("--wait", "30")
    watcher.join()
    assert code == 0, out
    assert f"waiting for {installed}/serving" in out
    assert "Deployment/berth-watcher" not in names(cluster)
