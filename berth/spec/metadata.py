"""`metadata`, and the annotations and labels of KAITO that change what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels
from berth.spec import formats
from berth.spec.nodes import Field, Opaque, Sequence, Struct, Table
from berth.spec.texts import code, nearest, quote
from berth.spec.values import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from berth.problems import Path
    from berth.spec.reports import Report

USED_ANNOTATIONS = {
    labels.ENABLE_LOAD_BALANCER: 'With the value "True" the Service is a LoadBalancer.',
}

IGNORED_ANNOTATIONS: dict[str, tuple[str, str]] = {
    "kaito.sh/runtime": ("berth always serves with llama.cpp", "remove it"),
    "kaito.sh/bypass-resource-checks": ("the size is checked all the same", "remove it"),
    "kaito.sh/node-image-family": ("berth does not choose the nodes' image", "set `nodeClass` in berth.yaml"),
    "kaito.sh/node-class-name": ("the node class is the fleet's", "set `nodeClass` in berth.yaml"),
    "kaito.sh/disable-benchmark": ("berth runs no benchmark after loading", "remove it"),
    "kaito.sh/performance-mode": (
        "it has no effect",
        "set `parallel` and `contextSize` in `inference.llamacpp`",
    ),
    "kaito.sh/use-local-weights": (
        "weights are not read from the node's disk",
        "use `inference.llamacpp.weights.pvc` or the fleet's `weights.cache`",
    ),
    "kaito.sh/model-streaming": ("weights are not streamed", "remove it"),
    "kaito.sh/model-mirror-storage-class": ("weights are not mirrored", "use the fleet's `weights.cache`"),
    "kaito.sh/streaming-service-account": ("weights are not streamed", "remove it"),
}
"""What happens instead, and what to do."""

IGNORED_LABELS: dict[str, tuple[str, str]] = {
    "inferenceset.kaito.sh/created-by": (
        "berth has no InferenceSet",
        "remove it, and set `inference.llamacpp.replicas`",
    ),
    "multiroleinference.kaito.sh/created-by": ("berth has no MultiRoleInference", "remove it"),
    "kaito.sh/inference-role": ("every replica does the whole inference", "remove it"),
}


def _warn_annotations(annotations: Mapping[str, str], path: Path, report: Report) -> None:
    for key, value in annotations.items():
        here = (*path, key)
        if key in IGNORED_ANNOTATIONS:
            reason, fix = IGNORED_ANNOTATIONS[key]
            report.warn(
                here, value, f"the annotation {code(key)} does nothing here: {reason}", fix, "not-used"
            )
        elif key == labels.ENABLE_LOAD_BALANCER:
            if value not in ("True", "False"):
                report.warn(
                    here,
                    value,
                    f'{quote(value)} makes no load balancer: the value has to be exactly "True"',
                    'write "True", or remove the annotation',
                    "not-used",
                )
        elif key.startswith("kaito.sh/"):
            found = nearest(key, [*USED_ANNOTATIONS, *IGNORED_ANNOTATIONS])
            report.warn(
                here,
                value,
                f"the annotation {code(key)} means nothing",
                f"write `{found}`" if found else "remove it",
                "not-used",
            )


def _warn_labels(given: Mapping[str, str], path: Path, report: Report) -> None:
    for key, value in given.items():
        if key in IGNORED_LABELS:
            reason, fix = IGNORED_LABELS[key]
            report.warn(
                (*path, key), value, f"the label {code(key)} does nothing here: {reason}", fix, "not-used"
            )


ANNOTATIONS = Table(formats.LABEL_KEY, Text(formats.Format("text", r"(?s)^.*$", 262_144, "")), most=256)
LABELS = Table(formats.LABEL_KEY, Text(formats.LABEL_VALUE), most=128)

_SERVER_SIDE = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
    "ownerReferences",
    "generateName",
)


class _Unread(Opaque):
    """What the API server writes; nobody's mistake."""

    def read(self, value: Any, path: Path, report: Report) -> Any:
        return value


METADATA = Struct(
    {
        "name": Field(Text(formats.WORKSPACE_NAME), "Name; the Service gets the same one.", required=True),
        "namespace": Field(Text(formats.DNS_LABEL), "Namespace. Absent: the one it is applied to."),
        "labels": Field(LABELS, "Labels.", verdict=_warn_labels),
        "annotations": Field(ANNOTATIONS, "Annotations.", verdict=_warn_annotations),
        "finalizers": Field(Sequence(Text(longest=317), most=64), "Written by the watcher."),
        **{name: Field(_Unread(), "Written by the API server.") for name in _SERVER_SIDE},
    },
)
