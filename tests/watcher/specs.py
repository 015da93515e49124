"""Workspaces as git has them after `berth render`: the spec with its plan, and the workload beside it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from berth import catalog, fleet, labels, sizing, workspaces
from berth.plans import Plan

if TYPE_CHECKING:
    from berth.fleet import Fleet

    Object = dict[str, Any]

A100 = "Standard_NC24ads_A100_v4"
T4 = "Standard_NC4as_T4_v3"
A10 = "Standard_NV36ads_A10_v5"


@lru_cache
def fleet_of(provisioning: str = "nodeclaim", fallbacks: tuple[str, ...] = (), **more: Any) -> Fleet:
    """Return a fleet file's content."""
    document = {"provisioning": provisioning, "fallbackInstanceTypes": list(fallbacks), **more}
    found, problems = fleet.read(document)
    assert found is not None, problems
    return found


def planned(
    name: str, namespace: str, *, count: int = 1, kind: str = A100, provisioning: str = "nodeclaim",
    fallbacks: tuple[str, ...] = (),
) -> Object:  # fmt: skip
    """Return a Workspace with its plan."""
    document: Object = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "namespace": namespace},
        "resource": {"count": count, "instanceType": kind, "labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "phi-4-mini-instruct"}},
    }
    document["metadata"]["annotations"] = {
        labels.PLAN: _plan(name, namespace, count, kind, provisioning, fallbacks)
    }
    return document


@lru_cache(maxsize=4096)
def _plan(
    name: str, namespace: str, count: int, kind: str, provisioning: str, fallbacks: tuple[str, ...]
) -> str:
    document = {
        "apiVersion": "kaito.sh/v1beta1", "kind": "Workspace",
        "metadata": {"name": name, "namespace": namespace},
        "resource": {"count": count, "instanceType": kind, "labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "phi-4-mini-instruct"}},
    }  # fmt: skip
    found = workspaces.read(document).workspace
    assert found is not None
    return sizing.plan(found, catalog.load(), fleet_of(provisioning, fallbacks)).dumps()


def workload(workspace: Object) -> Object:
    """Return the Deployment of a Workspace, as small as a scheduler needs it."""
    meta = workspace["metadata"]
    own = {labels.WORKSPACE: meta["name"]}
    plan = Plan.model_validate_json(meta["annotations"][labels.PLAN])
    digest = {labels.SERVER_DIGEST: plan.server_digest}
    wanted = {"apps": [meta["name"]], labels.INSTANCE_TYPE: [workspace["resource"]["instanceType"], T4, A10]}
    terms = [{"key": key, "operator": "In", "values": values} for key, values in wanted.items()]
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": terms}]
            }
        }
    }
    container = {"name": "server", "image": "x", "resources": {"limits": {labels.GPU_RESOURCE: "1"}}}
    pod = {"containers": [container], "affinity": affinity, "tolerations": [{"operator": "Exists"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "labels": own,
            "annotations": digest,
        },
        "spec": {
            "replicas": workspace["resource"]["count"],
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own, "annotations": digest}, "spec": pod},
        },
    }
