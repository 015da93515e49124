"""A Workspace as it stands in git: typed, immutable, and strict about what it was read from.

`read` returns everything that can be read together with every problem, so that one wrong field hides
nothing; `parse` is for callers that want a Workspace or an exception. Absence means something: an absent
field is None (or empty), and the planner decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from berth import labels, plans
from berth.errors import InvalidWorkspace
from berth.spec import llamacpp, metadata, schema
from berth.spec.reports import ABSENT, Report

if TYPE_CHECKING:
    from berth.problems import Path, Problem


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One entry of `matchExpressions`: `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """The nodes that a Workspace asks for; an absent count or instance type is the planner's choice."""

    count: int | None = None
    instance_type: str | None = None
    match_labels: Mapping[str, str] = field(default_factory=dict)
    match_expressions: tuple[LabelRequirement, ...] = ()
    preferred_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preset:
    """The model by its name in the catalogue; `image` is the original's PyTorch image, which is not used."""

    name: str
    access_mode: str | None = None
    image: str | None = None
    pull_secrets: tuple[str, ...] = ()
    model_access_secret: str | None = None


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where the GGUF file comes from instead of the preset's place: one of `hf`, `image` and `pvc`.

    `file` is a path below the source's root, the first part of a split model. `sha256` pins its content.
    """

    hf: str | None = None
    revision: str | None = None
    token_secret: str | None = None
    image: str | None = None
    pull_secrets: tuple[str, ...] = ()
    pvc: str | None = None
    file: str | None = None
    sha256: str | None = None
    stamp: bool = False


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What the user adds to every pod. Tolerations are Kubernetes' own mappings; `queue` is a Kueue queue."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    service_account_name: str | None = None
    image_pull_secrets: tuple[str, ...] = ()
    queue: str | None = None

    def over(self, defaults: PodSettings) -> PodSettings:
        """These settings on top of the fleet's: mappings are merged key by key, lists are joined."""
        return PodSettings(
            labels={**defaults.labels, **self.labels},
            annotations={**defaults.annotations, **self.annotations},
            tolerations=_joined(defaults.tolerations, self.tolerations),
            priority_class_name=self.priority_class_name or defaults.priority_class_name,
            runtime_class_name=self.runtime_class_name or defaults.runtime_class_name,
            service_account_name=self.service_account_name or defaults.service_account_name,
            image_pull_secrets=_joined(defaults.image_pull_secrets, self.image_pull_secrets),
            queue=self.queue or defaults.queue,
        )


@dataclass(frozen=True, slots=True)
class Ingress:
    """An Ingress for the Service; TLS where a Secret with the certificate is named."""

    host: str
    ingress_class_name: str | None = None
    path: str = "/"
    tls_secret_name: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParentRef:
    """The Gateway that an HTTPRoute attaches to."""

    name: str
    namespace: str | None = None
    section_name: str | None = None


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """A Gateway API route for the Service."""

    parent_refs: tuple[ParentRef, ...]
    hostnames: tuple[str, ...] = ()
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Expose:
    """How the Service is reached from outside the cluster: one of the two is set."""

    ingress: Ingress | None = None
    http_route: HttpRoute | None = None


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """How llama.cpp serves the model; None is absent, and the planner or the preset decides.

    `context_size` is tokens per slot.
    """

    quantization: str | None = None
    context_size: int | Literal["auto"] | None = None
    parallel: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    replicas: int | None = None
    weights: WeightsSource | None = None
    adapters: tuple[Mapping[str, Any], ...] = ()
    mmproj: Mapping[str, Any] | None = None
    extra_args: tuple[str, ...] = ()
    pod: PodSettings = PodSettings()
    expose: Expose | None = None


@dataclass(frozen=True, slots=True)
class Inference:
    """What runs: a preset or the user's own pod template, never both in a valid Workspace."""

    preset: Preset | None = None
    template: Mapping[str, Any] | None = None
    config: str | None = None
    adapters: tuple[Mapping[str, Any], ...] = ()
    llamacpp: LlamaCpp = LlamaCpp()


@dataclass(frozen=True, slots=True)
class Workspace:
    """One Workspace; `document` is the mapping that it was read from, unchanged."""

    api_version: str
    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    resource: Resource = Resource()
    inference: Inference = Inference()
    tuning: Mapping[str, Any] | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def load_balancer(self) -> bool:
        """Whether the Service is a LoadBalancer; only the original's exact text "True" counts."""
        return self.annotations.get(labels.ENABLE_LOAD_BALANCER) == "True"

    @property
    def spec_digest(self) -> str:
        """Changes exactly when what the plan was made from changes.

        Fixed defaults count as if they were written, so that filling them in changes nothing.
        """
        return plans.digest(_meaning(self.document))


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read of a document, and every problem of it.

    `workspace` is there whenever kind and name can be read. `broken` holds the path of every field that has
    an error: it is absent from `workspace`, which is not the same as absent from the document.
    """

    workspace: Workspace | None
    problems: tuple[Problem, ...] = ()
    broken: frozenset[Path] = frozenset()

    @property
    def valid(self) -> bool:
        """Whether nothing worse than a warning was found."""
        return all(problem.severity != "error" for problem in self.problems)


def read(document: Any) -> Reading:
    """Read one document and report every problem of its fields."""
    report = Report(schema.PLACES)
    fields = schema.WORKSPACE.read(document, (), report)
    workspace = None
    if fields is not ABSENT:
        name = _name(document)
        if name and document.get("kind") == labels.KIND:
            workspace = _workspace(document, name, fields)
    return Reading(workspace, tuple(report.problems), frozenset(report.broken))


def parse(document: Any) -> Workspace:
    """Read a document that has to be right.

    Raises:
        InvalidWorkspace: it has errors; all of them are in the exception.
    """
    reading = read(document)
    if reading.workspace is None or not reading.valid:
        raise InvalidWorkspace([problem for problem in reading.problems if problem.severity == "error"])
    return reading.workspace


def pod_settings(fields: Mapping[str, Any]) -> PodSettings:
    """Make the typed value of a `pod` mapping that was read well."""
    return PodSettings(
        labels=fields.get("labels", {}),
        annotations=fields.get("annotations", {}),
        tolerations=fields.get("tolerations", ()),
        priority_class_name=fields.get("priorityClassName"),
        runtime_class_name=fields.get("runtimeClassName"),
        service_account_name=fields.get("serviceAccountName"),
        image_pull_secrets=fields.get("imagePullSecrets", ()),
        queue=fields.get("queue"),
    )


def pod_document(pod: PodSettings) -> dict[str, Any]:
    """Write pod settings as they stand in a file, absent ones left out."""
    fields: dict[str, Any] = {
        "labels": dict(pod.labels),
        "annotations": dict(pod.annotations),
        "tolerations": [dict(toleration) for toleration in pod.tolerations],
        "priorityClassName": pod.priority_class_name,
        "runtimeClassName": pod.runtime_class_name,
        "serviceAccountName": pod.service_account_name,
        "imagePullSecrets": list(pod.image_pull_secrets),
        "queue": pod.queue,
    }
    return {name: value for name, value in fields.items() if value}


def _workspace(document: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> Workspace:
    meta = fields.get("metadata", {})
    tuning = fields.get("tuning")
    return Workspace(
        api_version=fields.get("apiVersion", ""),
        name=name,
        namespace=meta.get("namespace"),
        labels=meta.get("labels", {}),
        annotations=meta.get("annotations", {}),
        resource=_resource(fields.get("resource", {})),
        inference=_inference(fields.get("inference", {})),
        tuning=tuning,
        document=document,
    )


def _resource(fields: Mapping[str, Any]) -> Resource:
    selector = fields.get("labelSelector", {})
    requirements = (
        item for item in selector.get("matchExpressions", ()) if {"key", "operator"} <= item.keys()
    )
    return Resource(
        count=fields.get("count"),
        instance_type=fields.get("instanceType"),
        match_labels=selector.get("matchLabels", {}),
        match_expressions=tuple(LabelRequirement(**item) for item in requirements),
        preferred_nodes=fields.get("preferredNodes", ()),
    )


def _inference(fields: Mapping[str, Any]) -> Inference:
    return Inference(
        preset=_preset(fields.get("preset", {})),
        template=fields.get("template"),
        config=fields.get("config"),
        adapters=fields.get("adapters", ()),
        llamacpp=_llamacpp(fields.get("llamacpp", {})),
    )


def _preset(fields: Mapping[str, Any]) -> Preset | None:
    if "name" not in fields:
        return None
    options = fields.get("presetOptions", {})
    return Preset(
        name=fields["name"],
        access_mode=fields.get("accessMode"),
        image=options.get("image"),
        pull_secrets=options.get("imagePullSecrets", ()),
        model_access_secret=options.get("modelAccessSecret"),
    )


def _llamacpp(fields: Mapping[str, Any]) -> LlamaCpp:
    return LlamaCpp(
        quantization=fields.get("quantization"),
        context_size=fields.get("contextSize"),
        parallel=fields.get("parallel"),
        cache_type_k=fields.get("cacheTypeK"),
        cache_type_v=fields.get("cacheTypeV"),
        replicas=fields.get("replicas"),
        weights=_weights(fields["weights"]) if "weights" in fields else None,
        adapters=fields.get("adapters", ()),
        mmproj=fields.get("mmproj"),
        extra_args=fields.get("extraArgs", ()),
        pod=pod_settings(fields.get("pod", {})),
        expose=_expose(fields["expose"]) if "expose" in fields else None,
    )


def _weights(fields: Mapping[str, Any]) -> WeightsSource:
    return WeightsSource(
        hf=fields.get("hf"),
        revision=fields.get("revision"),
        token_secret=fields.get("tokenSecret"),
        image=fields.get("image"),
        pull_secrets=fields.get("pullSecrets", ()),
        pvc=fields.get("pvc"),
        file=fields.get("file"),
        sha256=fields.get("sha256"),
        stamp=fields.get("stamp", False),
    )


def _expose(fields: Mapping[str, Any]) -> Expose:
    ingress, route = fields.get("ingress", {}), fields.get("httpRoute", {})
    made = Expose()
    if "host" in ingress:
        made = Expose(
            ingress=Ingress(
                host=ingress["host"],
                ingress_class_name=ingress.get("ingressClassName"),
                path=ingress.get("path", "/"),
                tls_secret_name=ingress.get("tlsSecretName"),
                annotations=ingress.get("annotations", {}),
            )
        )
    elif "parentRefs" in route:
        parents = (parent for parent in route["parentRefs"] if "name" in parent)
        references = (
            ParentRef(item["name"], item.get("namespace"), item.get("sectionName")) for item in parents
        )
        made = Expose(
            http_route=HttpRoute(tuple(references), route.get("hostnames", ()), route.get("path", "/"))
        )
    return made


def _name(document: Mapping[str, Any]) -> str | None:
    meta = document.get("metadata")
    name = meta.get("name") if isinstance(meta, Mapping) else None
    return name if isinstance(name, str) and name else None


def _meaning(document: Mapping[str, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {
        name: document[name] for name in ("resource", "inference", "tuning") if name in document
    }
    inference = parts.get("inference")
    if isinstance(inference, Mapping) and "preset" in inference:
        given = inference.get("llamacpp", {})
        if isinstance(given, Mapping):
            parts["inference"] = {**inference, "llamacpp": {**llamacpp.DEFAULTS, **given}}
    meta = document.get("metadata")
    annotations = meta.get("annotations") if isinstance(meta, Mapping) else None
    if not isinstance(annotations, Mapping):
        return parts
    used = {key: annotations[key] for key in metadata.USED_ANNOTATIONS if key in annotations}
    return {**parts, "annotations": used} if used else parts


def _joined(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return first + tuple(item for item in second if item not in first)
