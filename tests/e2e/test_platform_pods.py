"""The platform as pods that run: installed, found healthy by the doctor, at work, and removed again.

It needs a cluster (see `clusters.py`) and the images of webhook and watcher, as their own tests build them,
or named in $BERTH_WEBHOOK_IMAGE and $BERTH_WATCHER_IMAGE.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from generator import cli
from generator.platform import frame
from tests.e2e import clusters
from tests.webhook.asking import workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clusters import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

USERS = "berth-test-users"
WORKSPACE = workspace("unrendered", metadata={"namespace": USERS})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with both images on its node, and one GPU that it announces."""
    with clusters.running() as found:
        found.give(*clusters.PROGRAM_IMAGES.values())
        found.gpus(1)
        # What a test before left behind: the platform's own pods tolerate no taint of GPU nodes.
        found.kubectl("taint", "nodes", "--all", "sku:NoSchedule-", check=False)
        yield found
        found.kubectl("delete", "namespace", USERS, "--ignore-not-found", "--wait=false", check=False)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    fleet = {"provisioning": "none", "images": {**clusters.PROGRAM_IMAGES, "pullPolicy": "Never"}}
    (folder / "berth.yaml").write_text(yaml.safe_dump(fleet))
    return folder


@pytest.fixture
def berth(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """The command line with a kubectl that speaks to this cluster."""
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {shutil.which(cluster.program)} run kubectl "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return run


def ready(cluster: Cluster, name: str) -> bool:
    status = cluster.get("deployment", name, "--namespace", frame.NAMESPACE).get("status") or {}
    return bool(status.get("readyReplicas") == 2 and status.get("updatedReplicas") == 2)


def conditions(cluster: Cluster) -> dict[str, dict[str, str]]:
    status = cluster.get("workspace", "unrendered", "--namespace", USERS).get("status") or {}
    return {one["type"]: one for one in status.get("conditions", [])}


def test_the_platform_comes_works_and_goes(berth: Any, cluster: Cluster, repository: Path) -> None:
    code, text = berth("install", "--out", "-", "--fleet", repository / "berth.yaml")
    assert code == 0
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    for name in (frame.WEBHOOK, frame.WATCHER):
        cluster.wait(lambda name=name: ready(cluster, name), f"{name} is ready", frame.NAMESPACE)  # type: ignore[misc]

    doctor = ("doctor", repository, "--no-repository", "--cluster", "--format", "json")
    cluster.wait(lambda: berth(*doctor)[0] == 0, "the doctor finds nothing wrong", frame.NAMESPACE, 60)
    told = json.loads(berth(*doctor)[1])["findings"]
    # A warning may be there: node objects that other tests left in this cluster.
    assert [one for one in told if one["state"] == "unknown"] == []
    assert {"webhook's leader", "watcher's leader", "webhook's certificate", "admission", "GPUs"} <= {
        one["what"] for one in told
    }

    cluster.kubectl("create", "namespace", USERS)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(WORKSPACE))
    cluster.wait(
        lambda: conditions(cluster).get("Ready", {}).get("reason") == "NotRendered",
        "the watcher says on the Workspace that it is not rendered", frame.NAMESPACE, 60,
    )  # fmt: skip
    found = json.loads(berth(*doctor)[1])["findings"]
    complaints = [one["what"] for one in found if one["state"] == "error"]
    assert f"Workspace {USERS}/unrendered" in complaints
    assert all(what.startswith("Workspace ") for what in complaints)

    before = cluster.get("workspace", "unrendered", "--namespace", USERS)
    code, text = berth("install", "--out", "-", "--fleet", repository / "berth.yaml", "--watcher-dry-run")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
    cluster.wait(lambda: ready(cluster, frame.WATCHER), "the watcher has rolled", frame.NAMESPACE)

    code, text = berth("install", "--remove")
    assert code == 0, text
    gone = "the namespace is gone"
    cluster.wait(lambda: frame.NAMESPACE not in cluster.kubectl("get", "namespaces"), gone, frame.NAMESPACE)
    after = cluster.get("workspace", "unrendered", "--namespace", USERS)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["resource"] == before["resource"]
    cluster.kubectl("delete", "workspace", "unrendered", "--namespace", USERS, "--timeout=20s")
