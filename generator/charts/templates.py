"""A pod template of the user's own: everything in it stays, and what KAITO adds is added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import labels
from generator.charts import placing, pods, shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from generator.charts.frames import Frame, Object


def template(frame: Frame, own: Mapping[str, Any]) -> Object:
    """Return the user's pod template with our label, affinity, tolerations and the fleet's pod settings.

    A value that the user set is never overwritten: lists are joined, our requirements narrow the user's
    affinity, and a setting fills only what is absent. The label is the exception, for the selector needs it.
    """
    given = without_nulls(own)
    metadata = dict(shapes.mapping(given, "metadata"))
    for name in ("name", "namespace", "creationTimestamp"):
        metadata.pop(name, None)
    added = frame.pod
    metadata["labels"] = {
        **added.labels,
        **pods.queue_label(frame),
        **shapes.mapping(metadata, "labels", "metadata"),
        labels.WORKSPACE: frame.name,
    }
    annotations = {**added.annotations, **shapes.mapping(metadata, "annotations", "metadata")}
    if annotations:
        metadata["annotations"] = annotations
    spec = dict(shapes.mapping(given, "spec"))
    affinity = placing.merged_affinity(shapes.mapping(spec, "affinity", "spec"), placing.affinity(frame))
    if affinity:
        spec["affinity"] = affinity
    spec["tolerations"] = placing.joined(
        shapes.items(spec, "tolerations", "spec"), placing.tolerations(frame)
    )
    if added.image_pull_secrets:
        named = [{"name": name} for name in added.image_pull_secrets]
        spec["imagePullSecrets"] = placing.joined(shapes.items(spec, "imagePullSecrets", "spec"), named)
    for key, value in (
        ("priorityClassName", added.priority_class_name),
        ("runtimeClassName", added.runtime_class_name),
        ("serviceAccountName", added.service_account_name),
    ):
        if value is not None:
            spec.setdefault(key, value)
    return {**given, "metadata": metadata, "spec": spec}


def port(own: Mapping[str, Any]) -> int:
    """Return the first port that a container of the template declares; the original's where none does."""
    for container in shapes.items(shapes.mapping(own, "spec"), "containers", "spec"):
        for one in shapes.items(container, "ports", "spec.containers[]"):
            number = one.get("containerPort") if isinstance(one, dict) else None
            if isinstance(number, int):
                return number
    return labels.PORT


def without_nulls(data: Any) -> Any:
    """Return JSON data without nulls: Kubernetes takes them for absent, and so does cdk8s."""
    if isinstance(data, dict):
        return {key: without_nulls(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [without_nulls(item) for item in data if item is not None]
    return data
