"""The whole circle: a commit becomes a served model, a later one a rollout, and a last one nothing at all.

Everything is real but the cloud: git, `berth`, the platform from its images with its webhook and watcher, the
serving image with llama.cpp, a model's image from a registry, pods on a node. `cloud.py` plays who makes
nodes, and the node's GPUs are a number. With BERTH_REPORT_DIR the figures of each run are written there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e import clusters, installed, models
from tests.e2e.cloud import Cloud
from tests.e2e.conftest import ROOT
from tests.e2e.syncers import ArgoCD, Flux, Syncer
from tests.repositories import git

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.clusters import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAME = "harbour"
TWO_GPUS, ONE_GPU = "Lab_2xT4", "Lab_1xT4"
GPUS = {TWO_GPUS: 2, ONE_GPU: 1}
CLUSTERS_OWN = {"configmap/kube-root-ca.crt", "configmap/openshift-service-ca.crt", "serviceaccount/default"}
"""What a cluster puts into every namespace, in its own time."""
SMALL = """\
- op: replace
  path: /spec/template/spec/containers/0/resources/requests/cpu
  value: 50m
- op: replace
  path: /spec/template/spec/containers/0/resources/requests/memory
  value: 100Mi
"""
"""This node is a tenth of a planned one, so the repository's overlay asks for less CPU and memory."""


class Repository:
    """The user's git repository: specs, the fleet file, the rendered folder and an overlay of one cluster."""

    def __init__(self, folder: Path, fleet: dict[str, Any]) -> None:
        self.folder = folder
        self.overlay = folder / "clusters" / "lab"
        self.overlay.mkdir(parents=True)
        (folder / "workspaces").mkdir()
        (folder / "berth.yaml").write_text(yaml.safe_dump(fleet))
        patch = {"target": {"kind": "Deployment"}, "patch": SMALL}
        (self.overlay / "kustomization.yaml").write_text(
            yaml.safe_dump({"resources": ["../../rendered"], "patches": [patch]})
        )
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> None:
        git(self.folder, *arguments)

    def berth(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [ROOT / ".venv" / "bin" / "berth", *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def commit(self, workspace: dict[str, Any] | None) -> str:
        """Write the Workspace, or take it away, render and commit; return what the change says it does."""
        file = self.folder / "workspaces" / f"{NAME}.yaml"
        if workspace is None:
            file.unlink()
        else:
            file.write_text(yaml.safe_dump(workspace))
            self.berth("check", ".")
        changes = ""
        if (self.folder / "rendered").exists():
            changes = self.berth("plan", "workspaces", "--since", "HEAD", "--format", "markdown")
        self.berth("render", "workspaces", "--out", "rendered")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "change")
        return changes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running() as found:
        found.give(clusters.SERVING_IMAGE, *clusters.PROGRAM_IMAGES.values())
        yield found


@pytest.fixture(scope="module")
def platform(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The fleet file, and the platform that `berth install` makes of it, running from its images."""
    folder = tmp_path_factory.mktemp("platform")
    server = dict.fromkeys(("cpu", "cuda12", "cuda13"), clusters.SERVING_IMAGE)
    fleet = {
        "cloud": "azure",
        "provisioning": "nodeclaim",
        "weights": {"imageVolumes": False},
        "images": {**clusters.PROGRAM_IMAGES, "server": server, "pullPolicy": "Never"},
        "instanceTypes": [_instance(name, count) for name, count in GPUS.items()],
    }
    cluster.kubectl("apply", "--server-side", "-f", ROOT / "tests" / "data" / "crds")
    with installed.platform(cluster, folder, fleet):
        yield fleet


@pytest.fixture(scope="module")
def weights(cluster: Cluster) -> dict[str, str]:
    return models.pushed(cluster)


class Report:
    """Seconds of each step, writes by kind of object and what requests came to."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seconds: dict[str, float] = {}
        self.answers: Counter[str] = Counter()
        self._before = self._writes()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)

    def _writes(self) -> Counter[str]:
        text = self.cluster.kubectl("get", "--raw", "/metrics")
        found: Counter[str] = Counter()
        for labels, value in re.findall(r"^apiserver_request_total\{(.*)\} (\d+)", text, re.MULTILINE):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if told["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE") and not told["dry_run"]:
                place = "/".join(filter(None, (told["resource"], told["subresource"])))
                found[f"{told['verb']} {place}"] += int(value)
        return found

    def writes(self) -> dict[str, int]:
        changed = self._writes() - self._before
        ours = ("workspaces", "nodeclaims", "events")
        return {name: count for name, count in sorted(changed.items()) if name.split()[1].startswith(ours)}

    def write(self, name: str) -> None:
        figures = {"seconds": self.seconds, "writes": self.writes(), "answers": dict(self.answers)}
        print(json.dumps(figures, indent=2))
        if folder := os.environ.get("BERTH_REPORT_DIR"):
            Path(folder, f"circle-{name}.json").write_text(json.dumps(figures, indent=2) + "\n")


@pytest.mark.parametrize(
    ("syncer", "tool", "instance_type"),
    [
        pytest.param(ArgoCD, "argocd", TWO_GPUS, id="argocd, with a GPU to spare for the rollout"),
        pytest.param(Flux, "flux", ONE_GPU, id="flux, with no GPU to spare"),
    ],
)
def test_from_commit_to_answer_to_nothing(
    syncer: type[Syncer],
    tool: str,
    instance_type: str,
    cluster: Cluster,
    platform: dict[str, Any],
    weights: dict[str, str],
    tmp_path: Path,
) -> None:
    namespace = f"berth-circle-{tool}"
    repository = Repository(tmp_path, {**platform, "gitops": tool})
    spare = GPUS[instance_type] > 1
    spec = _workspace(instance_type, weights)
    report = Report(cluster)
    cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=110s")
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    git = syncer(cluster, namespace)
    before = set(there(cluster, namespace))
    with Cloud(cluster, GPUS) as cloud, _cleaned(cluster, namespace):
        with report.step("check, render and commit"):
            repository.commit(spec)
        with report.step("sync"):
            git.sync(repository.overlay)
        with report.step("from sync to WorkspaceReady"):
            _wait_for(cluster, namespace, "WorkspaceReady", report)
        (claim,) = cloud.claims()
        assert claim["metadata"]["name"] == cloud.made[0]
        columns = cluster.kubectl("get", "workspace", NAME, "-n", namespace).split("\n")[1].split()
        assert columns[:5] == [NAME, instance_type, "True", "True", "True"]
        with report.step("answer"):
            status, text = ask(cluster, namespace)
        assert status == 200, text
        assert "Paris" in json.loads(text)["Result"]

        with report.step("rollout of a changed context"):
            spec["inference"]["llamacpp"]["contextSize"] = 2048
            changes = repository.commit(spec)
            assert ("restarts its only replica" in changes) is not spare
            with asking(cluster, namespace, report):
                git.sync(repository.overlay)
                cluster.kubectl("rollout", "status", f"deployment/{NAME}", "-n", namespace, "--timeout=110s")
                _wait_for(cluster, namespace, "Ready", report)
        assert report.answers["200"] >= 3, report.answers
        assert (set(report.answers) == {"200"}) is spare, report.answers
        assert ask(cluster, namespace)[0] == 200
        assert [one["metadata"]["uid"] for one in cloud.claims()] == [claim["metadata"]["uid"]]

        with report.step("from the last commit to nothing"):
            repository.commit(None)
            git.sync(repository.overlay)
            _wait_until_only(before, cluster, namespace)
    assert cloud.faults == []
    node = cluster.get("node", clusters.NODE)
    assert not any("kaito.sh" in label for label in node["metadata"]["labels"])
    report.write(tool)


def test_a_commit_that_cannot_fit_is_refused_by_the_cluster_as_by_the_check(
    cluster: Cluster, platform: dict[str, Any], weights: dict[str, str], tmp_path: Path
) -> None:
    repository = Repository(tmp_path, platform)
    spec = _workspace(ONE_GPU, weights)
    spec["inference"]["preset"]["name"] = "llama-3.3-70b-instruct"
    del spec["inference"]["llamacpp"]
    file = tmp_path / "workspaces" / "big.yaml"
    file.write_text(yaml.safe_dump(spec))
    told = json.loads(repository.berth("check", "workspaces", "--format", "json", code=1))
    reason = told["workspaces"][0]["problems"][0]["reason"]
    assert reason in cluster.refused("apply", "-f", str(file))


def _instance(name: str, count: int) -> dict[str, Any]:
    return {
        "name": name, "cloud": "azure", "gpuModel": "T4", "gpuCount": count, "gpuMemory": "15Gi",
        "computeCapability": 7.5, "vcpus": 2, "memory": "6Gi", "source": "https://example.com",
    }  # fmt: skip


def _workspace(instance_type: str, weights: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": NAME},
        "resource": {
            "instanceType": instance_type,
            "labelSelector": {"matchLabels": {"apps": NAME}},
        },
        "inference": {
            "preset": {"name": "smollm2-135m-instruct"},
            "llamacpp": {
                "quantization": "Q4_1",
                "contextSize": 1024,
                "parallel": 2,
                "replicas": 1,
                "weights": weights,
            },
        },
    }


def _wait_for(cluster: Cluster, namespace: str, condition: str, report: Report) -> None:
    """Wait with kubectl's own words, as a person would."""
    deadline = time.monotonic() + 300
    command = ["wait", f"workspace/{NAME}", "-n", namespace, f"--for=condition={condition}", "--timeout=60s"]
    while "condition met" not in cluster.kubectl(*command, check=False):
        if time.monotonic() > deadline:
            shown = cluster.kubectl("get", "workspace", NAME, "-n", namespace, "-o", "yaml", check=False)
            report.write("failed")
            pytest.fail(f"{condition} never came:\n{shown[-4000:]}\n{cluster.story(namespace)}")


def ask(cluster: Cluster, namespace: str) -> tuple[int, str]:
    return cluster.post(f"http://{_address(cluster, namespace)}/chat", models.QUESTION, 60)


def _address(cluster: Cluster, namespace: str) -> str:
    return str(cluster.get("service", NAME, "--namespace", namespace)["spec"]["clusterIP"])


@contextmanager
def asking(cluster: Cluster, namespace: str, report: Report) -> Iterator[None]:
    """Ask again and again meanwhile, and count what came back."""
    over = threading.Event()
    url = f"http://{_address(cluster, namespace)}/chat"

    def go_on() -> None:
        while not over.is_set():
            report.answers[str(cluster.post(url, models.QUESTION, 60)[0])] += 1
            time.sleep(0.1)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _cleaned(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Take the namespace away, also after a failure, while there is a cloud that gives its nodes back."""
    try:
        yield
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--timeout=110s", check=False)


def _wait_until_only(before: set[str], cluster: Cluster, namespace: str) -> None:
    deadline = time.monotonic() + 180
    while left := sorted(set(there(cluster, namespace)) - before - CLUSTERS_OWN):
        if time.monotonic() > deadline:
            pytest.fail(f"still there: {left}\n{cluster.story(namespace)}")
        time.sleep(1)


def there(cluster: Cluster, namespace: str) -> list[str]:
    """Return every object that git or berth makes, or that is made of those."""
    kinds = "workspaces,deployments,replicasets,statefulsets,pods,services,configmaps,networkpolicies,"
    kinds += "poddisruptionbudgets,serviceaccounts"
    names = cluster.kubectl("get", kinds, "-n", namespace, "-o", "name").split()
    return names + cluster.kubectl("get", "nodeclaims.karpenter.sh", "-o", "name").split()
