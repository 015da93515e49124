"""Charts: one plan becomes plain Kubernetes objects, in the order in which they are applied.

Pure functions on JSON data; cdk8s takes the objects over afterwards, in `generator.synth`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels, names
from generator.charts import gitops, network, nodepools, pods, templates, workloads
from generator.charts.frames import Frame
from generator.charts.frames import Object as Object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.fleet import Fleet
    from berth.plans import Plan
    from berth.workspaces import Workspace

_FIELDS = ("resource", "inference", "tuning")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def objects(plan: Plan, workspace: Workspace, fleet: Fleet) -> tuple[Object, ...]:
    """Return every object of a planned Workspace, in apply order; no two have one kind and name."""
    frame = Frame(plan, workspace, fleet)
    made = _template_objects(frame) if workspace.inference.template is not None else _preset_objects(frame)
    return tuple(gitops.annotated(thing, fleet.gitops) for thing in made)


def _preset_objects(frame: Frame) -> Iterator[Object]:
    server, weights = frame.plan.server, frame.plan.weights
    if server is None or weights is None:
        raise ValueError(f"the plan of {frame.workspace.name} serves nothing, and it has no template")
    yield _workspace(frame)
    if frame.pod.service_account_name is None:
        yield frame.object("v1", "ServiceAccount", frame.name, automountServiceAccountToken=False)
    yield _plan(frame)
    yield network.network_policy(frame)
    if frame.plan.nodes.provisioning == "nodepool":
        yield nodepools.node_pool(frame)
    yield network.service(frame)
    if frame.spans_nodes and frame.fleet.several_nodes == "statefulset":
        yield network.headless_service(frame)
    yield _disruption_budget(frame)
    yield from workloads.workloads(frame, server, weights)
    if frame.fleet.monitoring.pod_monitor:
        yield network.pod_monitor(frame)
    yield from network.exposed(frame)


def _template_objects(frame: Frame) -> Iterator[Object]:
    """A pod of the user's own has neither our ports nor our account, so it gets no objects for them."""
    own = frame.workspace.inference.template or {}
    yield _workspace(frame)
    yield _plan(frame)
    if frame.plan.nodes.provisioning == "nodepool" and frame.plan.nodes.instance_type is not None:
        yield nodepools.node_pool(frame)
    balanced = frame.workspace.annotations.get(labels.ENABLE_LOAD_BALANCER) == "True"
    if balanced or frame.workspace.inference.llamacpp.expose is not None:
        yield network.service(frame, templates.port(own))
    yield _disruption_budget(frame)
    yield workloads.deployment(frame, templates.template(frame, own), 0)
    yield from network.exposed(frame)


def essence(workspace: Workspace) -> Object:
    """Return the Workspace as it stands in git; what a cluster once added is left out."""
    ours = (labels.PLAN, labels.SPEC_DIGEST, labels.CATALOG_DIGEST, labels.FLEET_DIGEST, _LAST_APPLIED)
    metadata: Object = {"name": workspace.name}
    if workspace.namespace is not None:
        metadata["namespace"] = workspace.namespace
    if workspace.labels:
        metadata["labels"] = dict(workspace.labels)
    annotations = {key: value for key, value in workspace.annotations.items() if key not in ours}
    if annotations:
        metadata["annotations"] = annotations
    thing: Object = {"apiVersion": workspace.api_version, "kind": labels.KIND, "metadata": metadata}
    thing |= {key: workspace.document[key] for key in _FIELDS if key in workspace.document}
    found: Object = templates.without_nulls(thing)
    return found


def _workspace(frame: Frame) -> Object:
    """The Workspace with its plan."""
    thing = essence(frame.workspace)
    metadata = thing["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.PLAN: frame.plan.dumps(), **frame.provenance}
    return {**thing, "metadata": {**metadata, "annotations": annotations}}


def _plan(frame: Frame) -> Object:
    """The plan for people and for the pod, which follows it without a restart: its name has no hash."""
    text = frame.plan.model_dump_json(indent=2, by_alias=True, exclude_none=True) + "\n"
    name = names.part(frame.workspace.name, "plan")
    return frame.object("v1", "ConfigMap", name, data={pods.PLAN_FILE: text})


def _disruption_budget(frame: Frame) -> Object:
    spec: dict[str, Any] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": frame.selector},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return frame.object("policy/v1", "PodDisruptionBudget", frame.name, spec=spec)
