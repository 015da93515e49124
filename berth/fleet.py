"""The fleet file, `berth.yaml`: what holds for every Workspace of a repository and its cluster.

Every field has a default, so that one Workspace without a fleet file renders. The model below is the only
description: `read` judges a document by it, `json_schema` is for editors, the reference page is made from it.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from berth import plans, workspaces
from berth.plans import EngineVariant, Provisioning
from berth.problems import Problem
from berth.spec import formats, pods
from berth.spec.reports import ABSENT, Report
from berth.spec.translation import for_editors, translated, without_null
from berth.workspaces import PodSettings

IMAGE_REPOSITORY = "ghcr.io/berth-dev/berth"
IMAGE_TAG = "0.1.0"
"""Of the images that this version's manifests name; a release that leaves the pods alone keeps it."""

IMAGE_VOLUMES_SINCE = (1, 35)
"""Kubernetes mounts image volumes by default from this version on (feature gate ImageVolume)."""

RAW_FIELDS = ("models", "instanceTypes", "prices")
"""Entries that the catalogue judges."""


class Settings(BaseModel):
    """A mapping of the fleet file: immutable, strict about types, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
    )


def _text(form: formats.Format) -> Any:
    return Field(
        pattern=form.pattern, max_length=form.longest, json_schema_extra={"examples": [form.example]}
    )


Name = Annotated[str, _text(formats.DNS_SUBDOMAIN)]
Namespace = Annotated[str, _text(formats.DNS_LABEL)]
Image = Annotated[str, _text(formats.IMAGE)]
InstanceTypeName = Annotated[str, _text(formats.INSTANCE_TYPE)]
LabelKey = Annotated[str, _text(formats.LABEL_KEY)]
LabelValue = Annotated[str, _text(formats.LABEL_VALUE)]
Names = Annotated[tuple[Name, ...], Field(strict=False, max_length=16)]
Entry = dict[str, Any]
CapacityType = Literal["on-demand", "spot", "reserved"]


def _pod(value: Any) -> PodSettings:
    if isinstance(value, PodSettings):
        return value
    report = Report()
    fields = pods.POD.read(value, ("pod",), report)
    if report.problems or fields is ABSENT:
        raise ValueError("; ".join(problem.message for problem in report.problems))
    return workspaces.pod_settings(fields)


Pod = Annotated[
    PodSettings,
    PlainValidator(_pod),
    PlainSerializer(workspaces.pod_document),
    WithJsonSchema(pods.POD.schema()),
]


class ServerImages(Settings):
    """The serving image in its builds; the plan chooses one by what the GPUs can run."""

    cuda13: Image = Field(
        default=f"{IMAGE_REPOSITORY}/serving:{IMAGE_TAG}-cuda13",
        description="For GPUs of compute capability 7.5 and above.",
    )
    cuda12: Image = Field(
        default=f"{IMAGE_REPOSITORY}/serving:{IMAGE_TAG}-cuda12",
        description="For older GPUs, which CUDA 13 no longer supports.",
    )
    cpu: Image = Field(
        default=f"{IMAGE_REPOSITORY}/serving:{IMAGE_TAG}-cpu", description="For nodes without a GPU."
    )


class Images(Settings):
    """Container images, for clusters that pull from a registry of their own."""

    server: ServerImages = Field(default=ServerImages(), description="Serving image, by build.")
    webhook: Image = Field(
        default=f"{IMAGE_REPOSITORY}/webhook:{IMAGE_TAG}", description="Image of the admission webhook."
    )
    watcher: Image = Field(
        default=f"{IMAGE_REPOSITORY}/watcher:{IMAGE_TAG}", description="Image of the node watcher."
    )
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When images are pulled."
    )
    pull_secrets: Names = Field(default=(), description="Names of Secrets for pulling these images.")

    def serving(self, variant: EngineVariant) -> str:
        """The serving image of one build."""
        return {"cuda12": self.server.cuda12, "cuda13": self.server.cuda13, "cpu": self.server.cpu}[variant]


class WeightsCache(Settings):
    """A volume that keeps downloaded weights, so that a restart does not download them again."""

    pvc: Name = Field(
        description="PersistentVolumeClaim in the Workspace's namespace; several pods need a volume "
        "that many nodes can mount."
    )


class FleetWeights(Settings):
    """Where weights come from, unless a Workspace says otherwise."""

    source: Literal["hf", "image"] = Field(
        default="hf",
        description="`hf` downloads the preset's file from Hugging Face; `image` takes it from `registry`.",
    )
    registry: Image | None = Field(
        default=None,
        description="Registry and path of weights images, which are named "
        "`<registry>/<preset>:<quantization>`; needed with source `image`.",
    )
    cache: WeightsCache | None = Field(
        default=None, description="Volume that keeps downloads. Absent: each pod its own."
    )
    image_volumes: bool | None = Field(
        default=None,
        description="Whether the cluster mounts images as volumes; otherwise an init container copies. "
        "Absent: `kubernetesVersion` decides, from "
        f"{IMAGE_VOLUMES_SINCE[0]}.{IMAGE_VOLUMES_SINCE[1]} on it does.",
    )


class Budget(Settings):
    """What the Workspaces of one namespace may take together."""

    gpus: int | None = Field(
        default=None, ge=0, le=1_000_000, description="GPUs of all nodes. Absent: no limit."
    )
    cost_per_month: float | None = Field(
        default=None,
        ge=0,
        le=1e12,
        description="Money for 730 hours, in the currency of the prices. Absent: no limit.",
    )


class Limit(Settings):
    """How much the watcher may make, whatever the Workspaces ask for."""

    nodes: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Nodes at a time. Absent: no limit."
    )
    cost_per_hour: float | None = Field(
        default=None, ge=0, le=1e9, description="Money for an hour of all nodes. Absent: no limit."
    )
    creates_per_hour: int | None = Field(
        default=None, ge=0, le=1_000_000, description="Nodes asked for within an hour. Absent: no limit."
    )


class Limits(Settings):
    """Limits of what the watcher makes: NodeClaims and Machines. Unlike a budget they refuse no commit."""

    cluster: Limit = Field(default=Limit(), description="Limits of all Workspaces together.")
    namespaces: dict[Namespace, Limit] = Field(default={}, description="Limits by namespace.")


class NodeClass(Settings):
    """The cloud's own settings for nodes, by reference."""

    group: Name = Field(description="API group, such as `karpenter.azure.com`.")
    kind: str = Field(
        pattern="^[A-Z][A-Za-z0-9]*$", max_length=63, description="Kind, such as `AKSNodeClass`."
    )
    name: Name = Field(default="default", description="Name.")


class NodePool(Settings):
    """How the NodePools of `provisioning: nodepool` are written."""

    static_capacity: bool = Field(
        default=False,
        description="Keep the nodes running with `replicas`, which Karpenter has "
        "behind a feature gate. Otherwise nodes come with the pods.",
    )
    capacity_types: Annotated[tuple[CapacityType, ...], Field(strict=False)] = Field(
        default=("on-demand",),
        min_length=1,
        max_length=3,
        description="Kinds of capacity that may be bought.",
    )


class Monitoring(Settings):
    """Objects for Prometheus."""

    pod_monitor: bool = Field(
        default=False,
        description="Write a PodMonitor for each Workspace; needs the Prometheus operator's CRDs.",
    )
    labels: dict[LabelKey, LabelValue] = Field(
        default={}, description="Labels of the PodMonitors, for Prometheus' selector."
    )


_NODE_CLASSES = {
    ("azure", "nodepool"): ("karpenter.azure.com", "AKSNodeClass"),
    ("azure", "nodeclaim"): ("kaito.sh", "KaitoNodeClass"),
    ("aws", "nodepool"): ("karpenter.k8s.aws", "EC2NodeClass"),
    ("aws", "nodeclaim"): ("karpenter.k8s.aws", "EC2NodeClass"),
    ("gcp", "nodepool"): ("karpenter.k8s.gcp", "GCENodeClass"),
    ("gcp", "nodeclaim"): ("karpenter.k8s.gcp", "GCENodeClass"),
}


class Fleet(Settings):
    """What holds for every Workspace of the repository and its cluster."""

    cloud: Literal["azure", "aws", "gcp"] = Field(
        default="azure", description="Cloud whose instance types are chosen from."
    )
    provisioning: Provisioning = Field(
        default="nodeclaim",
        description="Who makes nodes: the watcher with a `nodeclaim` or "
        "a `machine`, Karpenter with a `nodepool` in git, or `none` where nodes "
        "exist.",
    )
    gitops: Literal["argocd", "flux", "none"] = Field(
        default="none",
        description="Tool that syncs the rendered folder; its annotations and health checks are written.",
    )
    kubernetes_version: str = Field(
        default="1.31",
        pattern=formats.KUBERNETES_VERSION.pattern,
        max_length=5,
        description="Oldest Kubernetes version of the clusters, in quotes.",
    )
    network_policy: Literal["enforced", "none"] = Field(
        default="none",
        description="Whether the cluster enforces "
        "NetworkPolicies. Only then may a model span several nodes, "
        "because the engine's RPC has no authentication.",
    )
    several_nodes: Literal["statefulset", "leaderworkerset"] = Field(
        default="statefulset",
        description="What a model over several nodes is made of: StatefulSets, or a LeaderWorkerSet where "
        "its controller runs.",
    )
    images: Images = Field(default=Images(), description="Container images.")
    weights: FleetWeights = Field(default=FleetWeights(), description="Where weights come from.")
    fallback_instance_types: Annotated[tuple[InstanceTypeName, ...], Field(strict=False)] = Field(
        default=(),
        max_length=16,
        description="Instance types to take where the planned one is not to be had; a plan names "
        "those for which it holds.",
    )
    instance_types: Annotated[tuple[Entry, ...], Field(strict=False)] = Field(
        default=(), description="Further instance types, shaped like the entries of `presets/gpus`."
    )
    models: Annotated[tuple[Entry, ...], Field(strict=False)] = Field(
        default=(), description="Further models, shaped like the entries of `presets/models`."
    )
    prices: dict[str, Entry] = Field(
        default={},
        description="Prices by instance type: `perHour`, `currency`, `region`, "
        "`asOf` and `source`. They go before the catalogue's.",
    )
    budgets: dict[Namespace, Budget] = Field(
        default={}, description="What a namespace may take; `check` and admission refuse more."
    )
    limits: Limits = Field(default=Limits(), description="What the watcher makes at most.")
    pod: Pod = Field(
        default=PodSettings(), description="What is added to every pod; a Workspace's own `pod` goes on top."
    )
    node_class: NodeClass | None = Field(
        default=None, description="Node class of new nodes. Absent: the cloud's default."
    )
    node_pool: NodePool = Field(default=NodePool(), description="Details of `provisioning: nodepool`.")
    monitoring: Monitoring = Field(default=Monitoring(), description="Objects for Prometheus.")

    @cached_property
    def digest(self) -> str:
        """Changes exactly when the file says something else; a default written out is no change."""
        return plans.digest(self.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    @property
    def new_node_class(self) -> NodeClass | None:
        """The node class of new nodes; None where no Karpenter makes them."""
        if self.node_class is not None:
            return self.node_class
        known = _NODE_CLASSES.get((self.cloud, self.provisioning))
        return NodeClass(group=known[0], kind=known[1]) if known else None

    def to_json(self) -> dict[str, Any]:
        """What the file says, without what it leaves to defaults."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return data


def read(document: Any) -> tuple[Fleet | None, list[Problem]]:
    """Read a fleet file's document; without errors there is a Fleet, whatever the warnings."""
    report = Report()
    if document is None:
        return Fleet(), []
    if not isinstance(document, Mapping):
        report.wrong_type(
            (), document, "a mapping", "write it as `key: value` lines; see docs/reference/fleet.md"
        )
        return None, report.problems
    given = dict(document)
    for name in RAW_FIELDS:
        if name in given and report.not_json(given[name], (name,)):
            del given[name]
    if "pod" in given:
        pod = pods.POD.read(given["pod"], ("pod",), report)
        given["pod"] = PodSettings() if pod is ABSENT else workspaces.pod_settings(pod)
    given = without_null(given, (), report, RAW_FIELDS)
    fleet = None
    try:
        fleet = Fleet.model_validate(_with_image_volumes(given), by_alias=True, by_name=False)
    except ValidationError as error:
        report.problems += translated(error, Fleet, document)
    if fleet is not None:
        _judge(fleet, report)
    errors = any(problem.severity == "error" for problem in report.problems)
    return None if errors else fleet, report.problems


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the fleet file, for editors."""
    schema = Fleet.model_json_schema(by_alias=True)
    plain: dict[str, Any] = for_editors(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **plain, "title": "berth.yaml"}


def _judge(fleet: Fleet, report: Report) -> None:
    if fleet.weights.source == "image" and fleet.weights.registry is None:
        report.error(
            ("weights", "registry"),
            None,
            "`registry` is missing: source `image` takes weights from it",
            "add `registry: registry.example.com/models`, or write source `hf`",
            "missing",
        )
    if fleet.weights.source == "hf" and fleet.weights.registry is not None:
        report.warn(
            ("weights", "registry"),
            fleet.weights.registry,
            "`registry` is not used with source `hf`",
            "write source `image`, or remove it",
            "not-used",
        )
    if fleet.provisioning in ("machine", "none") and fleet.node_class is not None:
        report.warn(
            ("nodeClass",),
            None,
            f"`nodeClass` is not used with provisioning `{fleet.provisioning}`",
            "remove it",
            "not-used",
        )


def _with_image_volumes(given: dict[str, Any]) -> dict[str, Any]:
    """Fill `weights.imageVolumes` by the cluster's version where the file leaves it open."""
    version, weights = given.get("kubernetesVersion"), given.get("weights", {})
    if not isinstance(weights, Mapping) or "imageVolumes" in weights or not isinstance(version, str):
        return given
    if re.fullmatch(r"1\.[0-9]{2}", version) and tuple(map(int, version.split("."))) >= IMAGE_VOLUMES_SINCE:
        return {**given, "weights": {**weights, "imageVolumes": True}}
    return given
