"""Plans and Workspaces made by hand: charts are tested without catalogue and planner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from berth import workspaces
from berth.fleet import Fleet
from berth.plans import GpuMemory, HostMemory, Memory, NodeRequest, Plan, Server, Weights
from berth.quantities import GIB
from generator import charts

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.workspaces import Workspace
    from generator.charts.frames import Object


class Make:
    """Factories with overrides; without any, one small model on one GPU."""

    def workspace(self, **inference: Any) -> Workspace:
        """A Workspace as it is read from git; `metadata` and `resource` replace their parts."""
        metadata = inference.pop("metadata", {"name": "falcon-7b"})
        resource = inference.pop(
            "resource",
            {"instanceType": "Standard_NC12s_v3", "labelSelector": {"matchLabels": {"apps": "falcon"}}},
        )
        if "template" not in inference:
            inference.setdefault("preset", {"name": "falcon-7b"})
        return workspaces.parse(
            {
                "apiVersion": "kaito.sh/v1alpha1",
                "kind": "Workspace",
                "metadata": metadata,
                "resource": resource,
                "inference": inference,
            }
        )

    def server(self, **overrides: Any) -> Server:
        """Settings of llama-server."""
        settings: dict[str, Any] = {
            "model": "falcon-7b",
            "alias": "falcon-7b",
            "quantization": "Q8_0",
            "context_size": 2048,
            "parallel": 4,
            "gpu_layers": 33,
            "gpus": 1,
        }
        return Server(**{**settings, **overrides})

    def weights(self, **overrides: Any) -> Weights:
        """A file in a Hugging Face repository at a fixed revision."""
        settings: dict[str, Any] = {
            "hf": "example/falcon-7b-GGUF",
            "revision": "0123456789abcdef0123456789abcdef01234567",
            "file": "falcon-7b-Q8_0.gguf",
            "size": 7 * GIB,
        }
        return Weights(**{**settings, **overrides})

    def plan(self, workspace: Workspace, fleet: Fleet | None = None, **overrides: Any) -> Plan:
        """A plan for a Workspace; `nodes` overrides single fields of the node request."""
        fleet = fleet or Fleet()
        nodes: dict[str, Any] = {
            "instance_type": "Standard_NC12s_v3",
            "count": 1,
            "gpus_per_node": 2,
            "labels": dict(workspace.resource.match_labels),
            "preferred": tuple(workspace.resource.preferred_nodes),
            "disk": 60 * GIB,
            "provisioning": fleet.provisioning,
        }
        gpu = GpuMemory(weights=7 * GIB, kv_cache=GIB, compute=GIB, overhead=GIB, total=10 * GIB)
        settings: dict[str, Any] = {
            "name": workspace.name,
            "namespace": workspace.namespace,
            "spec_digest": workspace.spec_digest,
            "catalog_digest": "sha256:00000000000000aa",
            "fleet_digest": fleet.digest,
            "replicas": 1,
            "gpus_per_replica": 1,
            "nodes_per_replica": 1,
            "server": None if workspace.inference.template else self.server(),
            "weights": None if workspace.inference.template else self.weights(),
            "memory": None
            if workspace.inference.template
            else Memory(
                gpus=(gpu,),
                host=HostMemory(weights=GIB // 2, kv_cache=0, compute=GIB // 8, total=GIB * 5 // 8),
            ),
        }
        nodes |= overrides.pop("nodes", {})
        return Plan(**{**settings, "nodes": NodeRequest(**nodes), **overrides})

    def objects(
        self, workspace: Workspace | None = None, fleet: Fleet | None = None, **overrides: Any
    ) -> dict[str, Object]:
        """The rendered objects by kind and name, `Deployment/falcon-7b`."""
        workspace, fleet = workspace or self.workspace(), fleet or Fleet()
        made = charts.objects(self.plan(workspace, fleet, **overrides), workspace, fleet)
        found = {f"{thing['kind']}/{thing['metadata']['name']}": thing for thing in made}
        assert len(found) == len(made)
        return found


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def pod_of() -> Callable[[Object], Object]:
    """The pod's spec in a workload."""

    def spec(workload: Object) -> Object:
        found: Object = workload["spec"]["template"]["spec"]
        return found

    return spec
