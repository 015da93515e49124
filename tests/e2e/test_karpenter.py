"""Claims of the watcher under Karpenter's own controllers; its provider `kwok` makes nodes that are objects.

BERTH_KARPENTER names that program (`go build ./kwok` of github.com/kubernetes-sigs/karpenter) and
BERTH_KARPENTER_CRDS the folder of its kinds (`kwok/charts/crds` there). The test plays the nodes' kubelet.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.conftest import ROOT, Kubectl, free_ports, run, start
from tests.serving.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TYPE = "Standard_NC24ads_A100_v4"
RESOURCES = {"cpu": "24", "memory": "220Gi", "ephemeral-storage": "1Ti", "pods": "110", "nvidia.com/gpu": "1"}
NOT_READY = "node.kubernetes.io/not-ready"
NAMESPACE, NAME = "models", "phi"
STAY_SECONDS = 45
UNWANTED = ("Consolidatable", "Drifted", "Empty", "Expired", "DisruptionReason")
WORKSPACE = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": NAME, "namespace": NAMESPACE},
    "resource": {"count": 2, "instanceType": TYPE, "labelSelector": {"matchLabels": {"apps": NAME}}},
    "inference": {"preset": {"name": "phi-4-mini-instruct"}, "llamacpp": {"replicas": 2}},
}
FLEET = {
    "cloud": "azure",
    "provisioning": "nodeclaim",
    "nodeClass": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass"},
}
INSTANCE_TYPES = [
    {
        "name": TYPE,
        "offerings": [{"capacityType": "on-demand", "zone": "lab-1", "price": 3.67}],
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": RESOURCES,
    }
]  # fmt: skip

NODE_CLASS = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
POOL = {
    "apiVersion": "karpenter.sh/v1",
    "kind": "NodePool",
    "metadata": {"name": "kaito"},
    "spec": {
        "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "1s"},
        "template": {"spec": {"nodeClassRef": NODE_CLASS, "expireAfter": "60s", "requirements": []}},
    },
}


class Kubelets:
    """Plays the kubelet of every node that Karpenter makes, until it is left."""

    def __init__(self, kubectl: Kubectl) -> None:
        self.kubectl = kubectl
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _play(self) -> None:
        while not self._over.wait(1):
            for node in self.kubectl.get("nodes")["items"]:
                if "deletionTimestamp" not in node["metadata"]:
                    self._greet(node)

    def _greet(self, node: dict[str, Any]) -> None:
        """Say once that it is ready, and take away the taint that the API server gives a new node."""
        patch = ("patch", "node", node["metadata"]["name"])
        if not node["status"].get("conditions"):
            ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
                     "lastHeartbeatTime": now(), "lastTransitionTime": now()}  # fmt: skip
            status = {"status": {"conditions": [ready], "capacity": RESOURCES, "allocatable": RESOURCES}}
            self.kubectl(*patch, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        for index, taint in enumerate(node["spec"].get("taints", [])):
            if taint["key"] == NOT_READY:
                place = f"/spec/taints/{index}"
                steps = [{"op": "test", "path": f"{place}/key", "value": NOT_READY},
                         {"op": "remove", "path": place}]  # fmt: skip
                # Karpenter takes its own taint away meanwhile; then this comes a second later.
                self.kubectl(*patch, "--type=json", "-p", json.dumps(steps), check=False)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def cluster(programs: Mapping[str, Path], tmp_path: Path) -> Iterator[Kubectl]:
    """An API server with Karpenter and the watcher at work."""
    karpenter, kinds = os.environ.get("BERTH_KARPENTER"), os.environ.get("BERTH_KARPENTER_CRDS")
    if not (karpenter and kinds):
        pytest.skip("NOT TESTED with Karpenter: BERTH_KARPENTER and BERTH_KARPENTER_CRDS name nothing")
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps(INSTANCE_TYPES))
    (tmp_path / "berth.yaml").write_text(yaml.safe_dump(FLEET))
    (tmp_path / f"{NAME}.yaml").write_text(yaml.safe_dump(WORKSPACE))
    with contextlib.ExitStack() as stack:
        config = start(programs, tmp_path, stack)
        kubectl = Kubectl(programs["kubectl"], config)
        for folder in (kinds, ROOT / "manifests" / "platform" / "crds"):
            kubectl("apply", "--server-side", "-f", str(folder))
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        for space in ("kube-system", NAMESPACE, "berth-system"):
            kubectl("create", "namespace", space, check=False)
        node_class = {"apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass",
                      "metadata": {"name": "default"}}  # fmt: skip
        kubectl("apply", "-f", "-", stdin=json.dumps(node_class))
        metrics, health, page = free_ports(3)
        settings = {
            "KUBECONFIG": str(config), "INSTANCE_TYPES_FILE_PATH": str(instances),
            "METRICS_PORT": str(metrics), "HEALTH_PROBE_PORT": str(health),
            "DISABLE_LEADER_ELECTION": "true", "SYSTEM_NAMESPACE": "kube-system",
        }  # fmt: skip
        run(stack, tmp_path / "karpenter.log", ["env", *(f"{k}={v}" for k, v in settings.items()), karpenter])
        run(stack, tmp_path / "watcher.log", [
            sys.executable, "-m", "watcher", "--kubeconfig", str(config), "--namespace", "berth-system",
            "--fleet", str(tmp_path / "berth.yaml"), "--host", "127.0.0.1", "--port", str(page),
        ])  # fmt: skip
        stack.enter_context(Kubelets(kubectl))
        yield kubectl


@pytest.mark.parametrize("pool", [
    pytest.param(None, id="with no NodePool at all"),
    pytest.param(POOL, id="beside a NodePool of the name in our label, which removes empty nodes at once"),
])  # fmt: skip
def test_claims_become_nodes_stay_and_go(
    pool: dict[str, Any] | None, cluster: Kubectl, tmp_path: Path
) -> None:
    if pool is not None:
        cluster("apply", "-f", "-", stdin=json.dumps(pool))
    rendered = subprocess.run(
        [sys.executable, "-m", "generator", "render", f"{NAME}.yaml", "--out", "-"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    spec = next(one for one in yaml.safe_load_all(rendered) if one["kind"] == "Workspace")
    cluster("apply", "--server-side", "-f", "-", stdin=json.dumps(spec))
    told = until(cluster, "NodeClaimReady", "True", 60)
    assert told["message"] == "2 of 2 NodeClaims are ready"
    claims, nodes = cluster.get("nodeclaims")["items"], cluster.get("nodes")["items"]
    assert len(claims) == len(nodes) == 2
    for claim in claims:
        said = {one["type"]: one["status"] for one in claim["status"]["conditions"]}
        steps = ("Launched", "Registered", "Initialized", "Ready")
        assert {step: said.get(step) for step in steps} == dict.fromkeys(steps, "True")
        assert claim["spec"]["expireAfter"] == "Never"
    status = cluster.get("workspace", NAME, "-n", NAMESPACE)["status"]
    assert sorted(status["workerNodes"]) == sorted(node["metadata"]["name"] for node in nodes)
    taints = [[(one["key"], one["effect"]) for one in node["spec"]["taints"]] for node in nodes]
    assert taints == [[("sku", "NoSchedule")]] * 2

    # Longer than Karpenter looks for what is empty, drifted, expired or without an owner.
    time.sleep(STAY_SECONDS)
    stayed = cluster.get("nodeclaims")["items"]
    assert uids(stayed) == uids(claims)
    if pool is None:
        found = [one["type"] for claim in stayed for one in claim["status"]["conditions"]]
        assert not set(UNWANTED) & set(found)

    lost = claims[0]["metadata"]["name"]
    cluster("delete", "nodeclaim", lost, "--timeout=60s")
    until(cluster, "NodeClaimReady", "True", 90, other_than=told["lastTransitionTime"])
    names = {claim["metadata"]["name"] for claim in cluster.get("nodeclaims")["items"]}
    assert len(names) == 2
    assert lost not in names

    cluster("delete", "workspace", NAME, "-n", NAMESPACE, "--timeout=90s")
    for kind in ("nodeclaims", "nodes"):
        wait_until(lambda kind=kind: cluster.get(kind)["items"] == [], f"no {kind} are left", 60)  # type: ignore[misc]


def uids(things: list[dict[str, Any]]) -> set[str]:
    return {one["metadata"]["uid"] for one in things}


def until(cluster: Kubectl, kind: str, status: str, seconds: float, other_than: str = "") -> dict[str, Any]:
    """Wait for a condition of the Workspace, and return it."""
    found: dict[str, Any] = {}

    def holds() -> bool:
        workspace = cluster.get("workspace", NAME, "-n", NAMESPACE)
        for one in workspace.get("status", {}).get("conditions", []):
            if one["type"] == kind:
                found.update(one)
        return found.get("status") == status and found.get("lastTransitionTime") != other_than

    wait_until(holds, f"{kind} is {status}", seconds)
    return found
