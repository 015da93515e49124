"""What tests with real pods share: a model in the registry, a place for it, and what is rendered there.

The node's GPUs are numbers only and the engine is the CPU's, so the fleet file names that image for every
variant; all else is what a user applies.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, cast

import yaml

from tests.e2e import clusters
from tests.e2e.conftest import ROOT
from tests.serving.conftest import packaged_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clusters import Cluster

NAMESPACE, SELECTOR = "berth-test-pods", "berth-test-pods"
MODEL_IMAGE = f"{clusters.REGISTRY}/models/smollm2-135m-instruct:q4_1"
INSTANCE_TYPE, SMALL_INSTANCE_TYPE = "Standard_NC4as_T4_v3", "Test_Small"
QUESTION = {"prompt": "The capital of France is", "max_length": 10, "do_sample": False}
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


def pushed(cluster: Cluster) -> dict[str, str]:
    """A model's image in the cluster's registry, made by `berth package`, as a Workspace names it."""
    model = packaged_model()
    if model is None:
        clusters.skip("no model: `make engine` installs it")
    file = cast("Path", model)
    berth = ROOT / ".venv" / "bin" / "berth"
    told = cluster(berth, "package", file, "--to", f"docker://{MODEL_IMAGE}", "--format", "json")
    return {"image": json.loads(told)["reference"], "file": file.name}


@contextlib.contextmanager
def place(cluster: Cluster) -> Iterator[str]:
    """A namespace under the strictest pod security, and a node that a Workspace's selector finds."""
    cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", ROOT / "manifests" / "platform" / "crds"
    )
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("label", "--overwrite", "node", clusters.NODE, f"apps={SELECTOR}")
    try:
        yield NAMESPACE
    finally:
        _clear(cluster)


def _clear(cluster: Cluster) -> None:
    # Nobody waits for their answers any more.
    cluster.kubectl("delete", "leaderworkersets", "--all", "-n", NAMESPACE, "--wait=false", check=False)
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

    def __init__(self, cluster: Cluster, folder: Path, weights: dict[str, str], **fleet: Any) -> None:
        self.cluster, self.folder, self.weights = cluster, folder, weights
        image = clusters.SERVING_IMAGE
        images = {"server": dict.fromkeys(("cpu", "cuda12", "cuda13"), image), "pullPolicy": "Never"}
        (folder / "berth.yaml").write_text(yaml.safe_dump({**FLEET, "images": images, **fleet}))

    def apply(self, name: str, instance_type: str, count: int = 2, **llamacpp: Any) -> None:
        workspace = {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "resource": {
                "count": count,
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
        for template in _templates(item):
            pod = template["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                container["resources"].setdefault("requests", {}).update(cpu="50m", memory="100Mi")
                container["resources"].setdefault("limits", {}).update(cpu="2", memory="1500Mi")
    return yaml.safe_dump_all(objects)


def _templates(item: dict[str, Any]) -> list[dict[str, Any]]:
    if item["kind"] == "LeaderWorkerSet":
        group = item["spec"]["leaderWorkerTemplate"]
        return [group["leaderTemplate"], group["workerTemplate"]]
    return [item["spec"]["template"]] if item["kind"] in ("Deployment", "StatefulSet") else []


def chat(cluster: Cluster, name: str) -> tuple[int, str]:
    """Ask as the original's quick start does, through the Service."""
    address = cluster.get("service", name, "--namespace", NAMESPACE)["spec"]["clusterIP"]
    return cluster.post(f"http://{address}/chat", QUESTION)
