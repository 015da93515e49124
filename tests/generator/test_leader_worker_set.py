"""A model over several nodes as a LeaderWorkerSet, as its controller and Kubernetes read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from berth import fleet as fleets

if TYPE_CHECKING:
    from berth.fleet import Fleet
    from generator.charts.frames import Object
    from tests.generator.conftest import Make

SEVERAL_NODES: dict[str, Any] = {"gpus_per_replica": 6, "nodes_per_replica": 3, "nodes": {"count": 6}}


def fleet(**document: Any) -> Fleet:
    found, problems = fleets.read(
        {"networkPolicy": "enforced", "severalNodes": "leaderworkerset", **document}
    )
    assert found is not None, problems
    return found


@pytest.fixture
def made(make: Make) -> dict[str, Object]:
    return make.objects(fleet=fleet(), replicas=2, **SEVERAL_NODES)


@pytest.fixture
def spec(made: dict[str, Object]) -> Object:
    found: Object = made["LeaderWorkerSet/falcon-7b-group"]["spec"]
    return found


def test_one_set_holds_every_replica_and_its_controller_makes_the_rest(made: dict[str, Object]) -> None:
    kinds = {name.partition("/")[0] for name in made}
    assert kinds.isdisjoint({"Deployment", "StatefulSet"})
    services = [name for name in made if name.startswith("Service/")]
    assert services == ["Service/falcon-7b"], "the headless Service is the controller's"


def test_groups_are_replaced_one_after_the_other_and_never_above_the_plan(spec: Object) -> None:
    assert spec["replicas"] == 2
    assert spec["leaderWorkerTemplate"]["size"] == 3
    assert spec["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_workers_start_while_the_leader_waits_for_them(spec: Object) -> None:
    assert spec["startupPolicy"] == "LeaderCreated"


@pytest.mark.parametrize("role", ["leader", "worker"])
def test_each_template_is_a_pod_that_kubernetes_takes(spec: Object, role: str) -> None:
    template = spec["leaderWorkerTemplate"][f"{role}Template"]
    assert template["metadata"]["labels"]["berth.dev/role"] == role
    assert "berth.dev/replica" not in template["metadata"]["labels"], "one template stands for all replicas"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, "1.37", strict=True)
    limits = template["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "2"


def test_a_leader_reaches_its_own_workers_by_its_own_name(spec: Object) -> None:
    container = spec["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]
    names = {one["name"]: one for one in container["env"]}
    assert names["BERTH_POD"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    hosts = [f"$(BERTH_POD)-{index}.falcon-7b-group:50052" for index in (1, 2)]
    arguments = container["args"]
    waited = [arguments[index + 1] for index, part in enumerate(arguments) if part == "--wait-for"]
    assert waited == hosts
    assert arguments[arguments.index("--rpc") + 1] == ",".join(hosts)


def test_a_long_name_leaves_room_for_what_the_controller_adds(make: Make) -> None:
    workspace = make.workspace(metadata={"name": "a" * 63})
    made = make.objects(workspace, fleet(), replicas=2, **SEVERAL_NODES)
    (name,) = (key.partition("/")[2] for key in made if key.startswith("LeaderWorkerSet/"))
    assert len(f"{name}-999") <= 52, "a StatefulSet's name, with which its revisions are labelled"
    assert name.endswith("-group")


def test_on_one_node_there_is_a_deployment_as_ever(make: Make) -> None:
    made = make.objects(fleet=fleet())
    assert "Deployment/falcon-7b" in made
    assert not any(name.startswith("LeaderWorkerSet/") for name in made)
