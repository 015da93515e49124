"""KAITO's objects as Workspaces that can stand in git: pure, and every change is told.

Nothing of a spec is dropped that somebody wrote. What goes is what a server wrote: status, book-keeping, and
KAITO's own defaults where the cluster still knows what was applied.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth import labels
from berth.problems import Problem
from berth.spec.texts import code
from generator.importing.reading import last_applied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.problems import Path

Object = dict[str, Any]

_ORDER = ("apiVersion", "kind", "metadata", "resource", "inference")
_BOOK_KEEPING = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "finalizers",
    "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds",
)  # fmt: skip
_ANNOTATIONS_OF_OTHERS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "workspace.kaito.io/",
    "inferenceset.kaito.io/",
    "argocd.argoproj.io/tracking-id",
)
_LABELS_OF_OTHERS = ("kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/")
_DEFAULTS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("resource", "count"), 1),
    (("inference", "preset", "accessMode"), "public"),
)
"""What KAITO's CRDs fill in. Their instance type stays: it is what the Workspace runs on today."""
_SET_FIELDS = {
    "nodeCountLimit": ("nodes are not limited by the Workspace", "write `budgets` in berth.yaml"),
    "updateStrategy": ("a rollout follows what the plan has GPUs for", ""),
    "autoUpgrade": ("images change by a commit, never by themselves", ""),
}


_OTHER_MODELS = {
    "mistral-7b": (
        "KAITO served v0.1 by this name up to 0.2.0, and v0.3 later; here it is v0.1",
        "write mistral-7b-v0.3 if that was served",
    )
}
"""Presets that mean another model in later versions of KAITO."""


@dataclass(frozen=True)
class Translated:
    """A Workspace for git, and what became different on the way; `same` is what was read, untouched."""

    document: Object
    notes: tuple[Problem, ...] = ()
    same: bool = False


def workspace(data: Object) -> Translated:
    """Return a Workspace without what a server wrote into it."""
    found = copy.deepcopy(data)
    written = last_applied(_mapping(found, "metadata"))
    _drop_book_keeping(found)
    if found == data:
        return Translated(data, tuple(_other_model(data)), same=True)
    notes = [
        *_other_model(data),
        _note((), "what the cluster wrote is left out: status, book-keeping and others' annotations"),
    ]
    if written:
        notes += _drop_defaults(found, written)
    return Translated(_ordered(found), tuple(notes))


def inference_set(data: Object) -> Translated:
    """Return one Workspace with `replicas` for an InferenceSet, which made one Workspace for each of them."""
    spec, metadata = _mapping(data, "spec"), _mapping(data, "metadata")
    template = copy.deepcopy(_mapping(spec, "template"))
    inner, resource = _mapping(template, "metadata"), _mapping(template, "resource")
    inference = _mapping(template, "inference")
    replicas = spec.get("replicas", 1)
    notes = [
        _note(
            (),
            "the InferenceSet becomes one Workspace: its replicas stand behind one Service",
            "point clients at that Service; scale by a commit to `inference.llamacpp.replicas`",
        )
    ]
    if replicas == 0:
        notes.append(_note(("spec", "replicas"), "a Workspace has at least one replica, so 0 became 1"))
    for name, (reason, fix) in _SET_FIELDS.items():
        if name in spec:
            notes.append(_note(("spec", name), f"{code(name)} is left out: {reason}", fix))
    known = {"replicas", "template", "labelSelector", *_SET_FIELDS}
    notes += [
        _note(("spec", name), f"{code(name)} is not understood, and is left out")
        for name in spec
        if name not in known
    ]
    if "labelSelector" in spec:
        resource["labelSelector"] = copy.deepcopy(spec["labelSelector"])
    if isinstance(replicas, int):
        inference["llamacpp"] = {**_mapping(inference, "llamacpp"), "replicas": max(1, replicas)}
    found: Object = {
        "apiVersion": f"{labels.GROUP}/{labels.VERSIONS[-1]}",
        "kind": labels.KIND,
        "metadata": {
            key: value
            for key, value in {
                "name": metadata.get("name"),
                "namespace": metadata.get("namespace"),
                "labels": {**_mapping(metadata, "labels"), **_mapping(inner, "labels")},
                "annotations": {**_mapping(metadata, "annotations"), **_mapping(inner, "annotations")},
            }.items()
            if value
        },
        "resource": resource,
        "inference": inference,
    }
    _drop_book_keeping(found)
    return Translated(found, (*notes, *_other_model(found)))


def _other_model(data: Object) -> Iterator[Problem]:
    name = _mapping(_mapping(data, "inference"), "preset").get("name")
    if isinstance(name, str) and name.lower() in _OTHER_MODELS:
        yield _note(("inference", "preset", "name"), *_OTHER_MODELS[name.lower()])


def owner(data: Object) -> tuple[str, str] | None:
    """Return kind and name of KAITO's object that made this one, None where a person did."""
    metadata = _mapping(data, "metadata")
    references = metadata.get("ownerReferences")
    for reference in references if isinstance(references, list) else ():
        if isinstance(reference, dict) and str(reference.get("apiVersion", "")).startswith(
            f"{labels.GROUP}/"
        ):
            return str(reference.get("kind")), str(reference.get("name"))
    for kind, label in (
        ("MultiRoleInference", "multiroleinference.kaito.sh/created-by"),
        ("InferenceSet", "inferenceset.kaito.sh/created-by"),
    ):
        name = _mapping(metadata, "labels").get(label)
        if isinstance(name, str):
            return kind, name
    return None


def _ordered(found: Object) -> Object:
    """The fields as people write them; a cluster lists them by their names."""
    first = [name for name in _ORDER if name in found]
    return {name: found[name] for name in [*first, *(name for name in found if name not in first)]}


def _drop_book_keeping(found: Object) -> None:
    found.pop("status", None)
    metadata = found.get("metadata")
    if not isinstance(metadata, dict):
        return
    for name in _BOOK_KEEPING:
        metadata.pop(name, None)
    for field, others in (("annotations", _ANNOTATIONS_OF_OTHERS), ("labels", _LABELS_OF_OTHERS)):
        given = metadata.get(field)
        if not isinstance(given, dict):
            continue
        for key in [key for key in given if str(key).startswith(others)]:
            del given[key]
            if not given:
                del metadata[field]


def _drop_defaults(found: Object, written: Object) -> list[Problem]:
    notes = []
    for path, default in _DEFAULTS:
        *way, last = path
        place, source = _at(found, way), _at(written, way)
        if place is not None and place.get(last) == default and last not in (source or {}):
            del place[last]
            reason = (
                f"{default} is KAITO's default and nobody wrote it, so it is left out: the planner decides"
            )
            notes.append(_note(path, reason))
    return notes


def _at(data: Any, way: list[str]) -> Object | None:
    for part in way:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def _mapping(data: Any, name: str) -> Object:
    found = data.get(name) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _note(path: Path, reason: str, fix: str = "") -> Problem:
    return Problem(path, None, reason, fix, "warning", rule="translated")
