"""What `berth render` writes, as pods that really answer: the serving image, the real engine, a real model.

The node's GPUs are numbers only and the engine is the CPU's, so the fleet file names that image for every
variant; all else is what a user applies. It needs a cluster (see `clusters.py`), the image (built by
`tests/serving/test_image.py`, or named in $BERTH_SERVING_IMAGE) and the model of the serving tests.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from tests.e2e import clusters
from tests.e2e.conftest import ROOT
from tests.serving.conftest import packaged_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clusters import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMESPACE, SELECTOR = "berth-test-pods", "berth-test-pods"
MODEL_IMAGE = f"{clusters.REGISTRY}/models/smollm2-135m-instruct:q4_1"
INSTANCE_TYPE, SMALL_INSTANCE_TYPE = "Standard_NC4as_T4_v3", "Test_Small"
FLEET: dict[str, Any] = {
    "provisioning": "none",
    "gitops": "none",
    "networkPolicy": "enforced",
    "weights": {"imageVolumes": False},
    "instanceTypes": [
        {
            "name": SMALL_INSTANCE_TYPE, "cloud": "azure", "gpuModel": "T4", "gpuCount": 1,
            "gpuMemory": "1000Mi", "computeCapability": 7.5, "vcpus": 2, "memory": "8Gi",
            "source": "https://example.com",
        }
    ],
}  # fmt: skip
"""The instance type is too small for a replica with long contexts, and so that spans two."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running() as found:
        found.gpus(16)
        yield found


@pytest.fixture(scope="module")
def serving_image(cluster: Cluster) -> str:
    """The serving image on the node."""
    cluster.give(clusters.SERVING_IMAGE)
    return clusters.SERVING_IMAGE


@pytest.fixture(scope="module")
def weights(cluster: Cluster) -> dict[str, str]:
    """A model's image in the cluster's registry, made by `berth package`, as a Workspace names it."""
    model = packaged_model()
    if model is None:
        clusters.skip("no model: `make engine` installs it")
    told = cluster(
        ROOT / ".venv" / "bin" / "berth", "package", cast("Path", model), "--to", f"docker://{MODEL_IMAGE}",
        "--format", "json",
    )  # fmt: skip
    return {"image": json.loads(told)["reference"], "file": cast("Path", model).name}


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace under the strictest pod security, and a node that a Workspace's selector finds."""
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", ROOT / "manifests" / "platform" / "crds"
    )
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("label", "--overwrite", "node", clusters.NODE, f"apps={SELECTOR}")
    yield NAMESPACE
    # Nobody waits for their answers any more.
    cluster.kubectl(
        "delete", "deployments,statefulsets", "--all", "-n", NAMESPACE, "--cascade=orphan", check=False
    )
    cluster.kubectl(
        "delete", "pods", "--all", "-n", NAMESPACE, "--grace-period=1", "--wait=false", check=False
    )
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=110s", check=False)
    cluster.kubectl("label", "node", clusters.NODE, "apps-", "node.kubernetes.io/instance-type-")


class Rendered:
    """Renders a Workspace and applies it."""

    def __init__(self, cluster: Cluster, folder: Path, image: str, weights: dict[str, str]) -> None:
        self.cluster, self.folder, self.weights = cluster, folder, weights
        images = {"server": dict.fromkeys(("cpu", "cuda12", "cuda13"), image), "pullPolicy": "Never"}
        (folder / "berth.yaml").write_text(yaml.safe_dump({**FLEET, "images": images}))

    def apply(self, name: str, instance_type: str, **llamacpp: Any) -> None:
        workspace = {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "resource": {
                "count": 2,
                "instanceType": instance_type,
                "labelSelector": {"matchLabels": {"apps": SELECTOR}},
            },
            "inference": {
                "preset": {"name": "smollm2-135m-instruct"},
                "llamacpp": {"quantization": "Q4_1", "weights": self.weights, **llamacpp},
            },
        }
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(workspace))
        self.cluster.kubectl(
            "label", "--overwrite", "node", clusters.NODE, f"node.kubernetes.io/instance-type={instance_type}"
        )
        rendered = self.cluster(ROOT / ".venv" / "bin" / "berth", "render", file, "--out", "-")
        self.cluster.kubectl("apply", "-f", "-", stdin=fit(rendered))


def fit(rendered: str) -> str:
    """Ask for less CPU and memory than planned: this node is a tenth of the planned one."""
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet"):
            pod = item["spec"]["template"]["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                container["resources"].setdefault("requests", {}).update(cpu="50m", memory="100Mi")
                container["resources"].setdefault("limits", {}).update(cpu="2", memory="1500Mi")
    return yaml.safe_dump_all(objects)


@pytest.fixture
def rendered(
    cluster: Cluster, namespace: str, serving_image: str, weights: dict[str, str], tmp_path: Path
) -> Rendered:
    return Rendered(cluster, tmp_path, serving_image, weights)


def ready(cluster: Cluster, workload: str) -> bool:
    """Whether all of a workload's pods are of its newest template, and ready."""
    found = cluster.get(workload, "--namespace", NAMESPACE)
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == wanted
        and status.get("replicas") == wanted
    )


def chat(cluster: Cluster, name: str) -> tuple[int, str]:
    """Ask as the original's quick start does, through the Service."""
    address = cluster.get("service", name, "--namespace", NAMESPACE)["spec"]["clusterIP"]
    body = {"prompt": "The capital of France is", "max_length": 10, "do_sample": False}
    return cluster.post(f"http://{address}/chat", body)


def test_replicas_answer_through_their_service_and_roll_out_without_a_gap(
    cluster: Cluster, rendered: Rendered
) -> None:
    rendered.apply("harbour", INSTANCE_TYPE, contextSize=1024, parallel=2)
    cluster.wait(lambda: ready(cluster, "deployment/harbour"), "two replicas are ready", NAMESPACE, 240)
    status, text = chat(cluster, "harbour")
    assert status == 200, text
    assert "Paris" in json.loads(text)["Result"]

    seen: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            seen.append(chat(cluster, "harbour"))
            time.sleep(0.2)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        before = pods(cluster)
        rendered.apply("harbour", INSTANCE_TYPE, contextSize=2048, parallel=2)
        cluster.wait(
            lambda: ready(cluster, "deployment/harbour"), "the new replicas are ready", NAMESPACE, 300
        )
    finally:
        over.set()
        asking.join()
    assert not before & pods(cluster)
    assert len(seen) > 5
    assert [answer for answer in seen if answer[0] != 200] == []


def test_a_replica_over_two_nodes_answers(cluster: Cluster, rendered: Rendered) -> None:
    rendered.apply("fleet", SMALL_INSTANCE_TYPE, contextSize=8192, parallel=4)
    parts = ("statefulset/fleet-0", "statefulset/fleet-0-workers")
    cluster.wait(lambda: all(ready(cluster, part) for part in parts), "both parts are ready", NAMESPACE, 300)
    status, text = chat(cluster, "fleet")
    assert status == 200, text
    assert "Paris" in json.loads(text)["Result"]
    told = cluster.kubectl("logs", "fleet-0-0", "--namespace", NAMESPACE, "--container", "server")
    assert "--rpc fleet-0-workers-0.fleet-headless" in told

    before = worker(cluster)
    cluster.kubectl(
        "delete", "pod", "fleet-0-workers-0", "--namespace", NAMESPACE, "--grace-period=1", "--wait=false"
    )
    cluster.wait(
        lambda: worker(cluster) != before and all(ready(cluster, part) for part in parts),
        "the group is whole again",
        NAMESPACE,
        300,
    )
    cluster.wait(lambda: chat(cluster, "fleet")[0] == 200, "it answers again", NAMESPACE, 120)


def worker(cluster: Cluster) -> str | None:
    """The uid of the worker's pod, if there is one."""
    found = cluster.get("pods", "--namespace", NAMESPACE, "--selector", "berth.dev/role=worker")["items"]
    return str(found[0]["metadata"]["uid"]) if found else None


def pods(cluster: Cluster) -> set[str]:
    """The uids of the namespace's pods that are not ending."""
    found = cluster.get("pods", "--namespace", NAMESPACE)["items"]
    return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}
