"""A rendered LeaderWorkerSet under its real controller: groups that answer, mend themselves and roll over.

BERTH_LWS_MANIFESTS names the file of a release (`manifests.yaml` of github.com/kubernetes-sigs/lws); besides
it needs what the tests of `test_pods.py` need, and the images of webhook and watcher.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import clusters, installed, models
from tests.e2e.models import NAMESPACE, SMALL_INSTANCE_TYPE, Rendered, chat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clusters import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAME, SET = "fleet", "fleet-group"
GPUS_OF_WORKERS = (
    "/spec/leaderWorkerTemplate/workerTemplate/spec/containers/0/resources/limits/nvidia.com~1gpu"
)
MORE_GPUS = json.dumps([{"op": "replace", "path": GPUS_OF_WORKERS, "value": "3"}])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running() as found:
        found.gpus(16)
        yield found


@pytest.fixture(scope="module")
def lws(cluster: Cluster) -> Iterator[None]:
    with installed.controller(cluster, "BERTH_LWS_MANIFESTS", "controller of LeaderWorkerSet", "lws-system"):
        yield


@pytest.fixture
def rendered(cluster: Cluster, lws: None, tmp_path: Path) -> Iterator[Rendered]:
    cluster.give(clusters.SERVING_IMAGE, *clusters.PROGRAM_IMAGES.values())
    images = {**clusters.PROGRAM_IMAGES, "pullPolicy": "Never"}
    fleet = {**models.FLEET, "severalNodes": "leaderworkerset", "images": images}
    with installed.platform(cluster, tmp_path, fleet), models.place(cluster):
        yield Rendered(cluster, tmp_path, models.pushed(cluster), severalNodes="leaderworkerset")


def test_groups_of_leader_and_worker_answer_mend_themselves_and_roll_over(
    cluster: Cluster, rendered: Rendered
) -> None:
    rendered.apply(NAME, SMALL_INSTANCE_TYPE, 4, contextSize=8192, parallel=4)
    cluster.wait(lambda: ready(cluster), "both groups answer, and the Workspace says so", NAMESPACE, 300)
    before = pods(cluster)
    assert sorted(before) == [f"{SET}-0", f"{SET}-0-1", f"{SET}-1", f"{SET}-1-1"]
    for index in (0, 1):
        told = cluster.kubectl("logs", f"{SET}-{index}", "-n", NAMESPACE, "-c", "server")
        assert f"--rpc {SET}-{index}-1.{SET}:50052" in told
    told = cluster.refused("patch", "leaderworkerset", SET, "-n", NAMESPACE, "--type=json", "-p", MORE_GPUS)
    assert "3 GPUs are asked for, and the plan needs 1 in each pod" in told

    with asking(cluster) as seen:
        worker = f"{SET}-1-1"
        cluster.kubectl("delete", "pod", worker, "-n", NAMESPACE, "--grace-period=1", "--wait=false")
        cluster.wait(
            lambda: pods(cluster).get(worker, before[worker]) != before[worker] and ready(cluster),
            "the group has a worker again, and answers", NAMESPACE, 300,
        )  # fmt: skip
    mended = pods(cluster)
    assert {**mended, worker: ""} == {**before, worker: ""}, "the others stayed, the leader too"
    assert "200" in seen

    with asking(cluster) as seen:
        rendered.apply(NAME, SMALL_INSTANCE_TYPE, 4, contextSize=4096, parallel=8)
        cluster.wait(
            lambda: not set(mended.values()) & set(pods(cluster).values()) and ready(cluster),
            "all pods are new, and ready", NAMESPACE, 400,
        )  # fmt: skip
    assert set(seen) == {"200"}, "one group answers while the other is replaced"
    assert seen["200"] > 5


@contextlib.contextmanager
def asking(cluster: Cluster) -> Iterator[Counter[str]]:
    """Ask again and again meanwhile, and count the statuses that came back."""
    seen: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.2):
            status, text = chat(cluster, NAME)
            # Told so that a failure says who answered what.
            seen["200" if status == 200 else f"{status} {text}"] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def answers(cluster: Cluster, pod: dict[str, Any]) -> bool:
    """Whether a leader's engine answers now; the kubelet asks only every few seconds."""
    url = f"http://{pod['status'].get('podIP')}:5000/readyz"
    return cluster("curl", "--silent", "--fail", "--max-time", "5", url, check=False) != ""


def ready(cluster: Cluster) -> bool:
    """Whether the controller calls all groups new and ready, and the watcher says so on the Workspace."""
    found = cluster.get("leaderworkerset", SET, "-n", NAMESPACE)
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    told = cluster.get("workspace", NAME, "-n", NAMESPACE)
    seen = told.get("status") or {}
    conditions = {one["type"]: one["status"] for one in seen.get("conditions", [])}
    leaders = cluster.get("pods", "-n", NAMESPACE, "--selector", "berth.dev/role=leader")["items"]
    return bool(
        all(answers(cluster, pod) for pod in leaders)
        and status.get("readyReplicas") == status.get("updatedReplicas") == wanted
        and seen.get("observedGeneration") == told["metadata"]["generation"]
        and seen.get("readyReplicas") == wanted
        and conditions.get("InferenceReady") == "True"
    )


def pods(cluster: Cluster) -> dict[str, str]:
    """The uids of the pods that are not ending, by name."""
    found = cluster.get("pods", "-n", NAMESPACE)["items"]
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    }
