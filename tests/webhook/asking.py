"""Reviews as an API server sends them."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from berth import catalog, fleet
from berth.fleet import Fleet
from webhook import reviews
from webhook.admission import Context

ROOT = Path(__file__).parents[2]
RENDERED = (
    ROOT / "manifests" / "examples",
    ROOT / "examples" / "fleet" / "rendered",
    ROOT / "tests" / "golden",
)
KINDS = ("Workspace", "Deployment", "StatefulSet", "LeaderWorkerSet")

Object = dict[str, Any]


def context(of: Fleet | None = None, known: tuple[Object, ...] = ()) -> Context:
    """What decisions are made from."""
    return Context(catalog.load(), of or Fleet(), lambda: known)


def body(document: Any, operation: str = "CREATE", old: Any = None, **request: Any) -> bytes:
    """A review's bytes."""
    group, _, version = document["apiVersion"].rpartition("/")
    asked = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "operation": operation,
        "kind": {"group": group, "version": version, "kind": document["kind"]},
        "name": document["metadata"].get("name"),
        "namespace": "default",
        "userInfo": {"username": "alice"},
        "object": document,
        "oldObject": old,
        **request,
    }
    return json.dumps(
        {"apiVersion": reviews.API_VERSION, "kind": "AdmissionReview", "request": asked}
    ).encode()


def review(document: Any, operation: str = "CREATE", old: Any = None, **request: Any) -> reviews.Request:
    """A review that was read."""
    return reviews.parse(body(document, operation, old, **request))


@cache
def _rendered() -> tuple[tuple[str, Object], ...]:
    found = []
    for folder in RENDERED:
        for file in sorted(folder.rglob("*.yaml")):
            if "specs" in file.parts:
                continue
            for document in yaml.safe_load_all(file.read_text()):
                if isinstance(document, dict) and document.get("kind") in KINDS:
                    found.append((str(file.relative_to(ROOT)), document))
    return tuple(found)


def rendered(kind: str | None = None) -> dict[str, Object]:
    """Every rendered example of a kind (of all that admission judges), by its file."""
    return {
        f"{file}": copy.deepcopy(document)
        for file, document in _rendered()
        if kind is None or document["kind"] == kind
    }


def fleet_of(file: str) -> Fleet:
    """The fleet that an example was rendered for."""
    for folder in (ROOT / file).parents:
        for place in (folder / "berth.yaml", folder / "specs" / "berth.yaml"):
            if place.is_file():
                found, problems = fleet.read(yaml.safe_load(place.read_text()))
                assert found is not None, problems
                return found
        if folder == ROOT:
            break
    return Fleet()


def workspace(name: str = "assistant", **parts: Any) -> Object:
    """A Workspace as somebody writes it before anything is rendered; mappings join those that are there."""
    base: Object = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"apps": name}},
        },
        "inference": {"preset": {"name": "falcon-7b"}},
    }
    for key, value in parts.items():
        base[key] = {**base[key], **value} if isinstance(value, dict) else value
    return base


def deployment(name: str = "workspace-falcon-7b") -> Object:
    """A rendered Deployment to spoil."""
    return next(
        copy.deepcopy(document)
        for file, document in _rendered()
        if file.startswith("manifests/examples/kaito") and document["kind"] == "Deployment"
        and document["metadata"]["name"] == name
    )  # fmt: skip


def pod(workload: Object) -> Object:
    """The pod that a workload's controller would make."""
    template = workload["spec"]["template"]
    metadata = {**copy.deepcopy(template["metadata"]), "name": workload["metadata"]["name"] + "-x"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}
