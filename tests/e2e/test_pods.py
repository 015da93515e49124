"""What `berth render` writes, as pods that really answer: the serving image, the real engine, a real model.

The node's GPUs are numbers only and the engine is the CPU's, so the fleet file names that image for every
variant; all else is what a user applies. It needs a cluster (see `clusters.py`), the image (built by
`tests/serving/test_image.py`, or named in $BERTH_SERVING_IMAGE) and the model of the serving tests.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e import clusters, models
from tests.e2e.models import INSTANCE_TYPE, NAMESPACE, SMALL_INSTANCE_TYPE, Rendered, chat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clusters import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running() as found:
        found.give(clusters.SERVING_IMAGE)
        found.gpus(16)
        yield found


@pytest.fixture(scope="module")
def weights(cluster: Cluster) -> dict[str, str]:
    return models.pushed(cluster)


@pytest.fixture
def rendered(cluster: Cluster, weights: dict[str, str], tmp_path: Path) -> Iterator[Rendered]:
    with models.place(cluster):
        yield Rendered(cluster, tmp_path, weights)


def ready(cluster: Cluster, workload: str) -> bool:
    """Whether all of a workload's pods are of its newest template, and ready."""
    found = cluster.get(workload, "--namespace", NAMESPACE)
    status, wanted = found.get("status", {}), found["spec"]["replicas"]
    return bool(
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == wanted
        and status.get("replicas") == wanted
    )


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
