"""What is wrong with a YAML document that a page shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

from berth import catalog as catalogs
from berth import fleet as fleets

BERTH = Path(sys.executable).with_name("berth")
KUBERNETES = "1.33"
FLEET_FIELDS = {field.alias or name for name, field in fleets.Fleet.model_fields.items()}
BASE: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "shown"},
    "resource": {"labelSelector": {"matchLabels": {"apps": "shown"}}},
    "inference": {"preset": {"name": "qwen3-8b"}},
}
FOREIGN = {
    ("argoproj.io/v1alpha1", "Application"),
    ("argoproj.io/v1alpha1", "ApplicationSet"),
    ("source.toolkit.fluxcd.io/v1", "GitRepository"),
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"),
    ("karpenter.sh/v1", "NodePool"),
    ("karpenter.sh/v1", "NodeClaim"),
    ("karpenter.k8s.aws/v1", "EC2NodeClass"),
    ("external-secrets.io/v1", "ExternalSecret"),
}
"""Kinds of other projects, whose schemas are not in Kubernetes: their names alone are checked."""


def problems(text: str, folder: Path) -> list[str]:
    """Judge every document of a block; the fleet file of the folder holds for Workspaces."""
    return [
        problem
        for document in yaml.safe_load_all(text)
        if document is not None
        for problem in _judge(document, folder)
    ]


def _judge(document: Any, folder: Path) -> list[str]:
    if not isinstance(document, dict):
        return [f"not a mapping: {document!r}"]
    if "kind" in document:
        return _judge_object(document, folder)
    keys = set(document)
    if keys <= FLEET_FIELDS:
        return _judge_fleet(document)
    if keys <= {"resource", "inference"}:
        return _check({**BASE, **_merged(document)}, folder)
    if keys == {"tolerations"}:  # values of the device plugin's chart
        pod = {"containers": [{"name": "plugin"}], **document}
        return _judge_object({"apiVersion": "v1", "kind": "Pod", "spec": pod}, folder)
    if keys & {"jobs", "steps"} or keys <= {"uses", "run", "with"}:
        return []  # a GitHub workflow
    return [f"neither an object nor a fleet file nor a part of a Workspace: {sorted(keys)}"]


def _merged(document: dict[str, Any]) -> dict[str, Any]:
    inference = {**BASE["inference"], **document.get("inference", {})}
    resource = {**BASE["resource"], **document.get("resource", {})}
    if "template" in inference:
        inference.pop("preset")
    return {"resource": resource, "inference": inference}


def _judge_object(document: dict[str, Any], folder: Path) -> list[str]:
    kind = (document.get("apiVersion"), document["kind"])
    if kind[0] in ("kaito.sh/v1alpha1", "kaito.sh/v1beta1"):
        return _check(document, folder)
    if kind in FOREIGN or kind == ("kustomize.config.k8s.io/v1beta1", "Kustomization"):
        named = kind[0] == "kustomize.config.k8s.io/v1beta1" or document.get("metadata", {}).get("name")
        return [] if named else [f"{kind[1]} without a name"]
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as problem:
        return [f"{kind[1]}: {problem}"]
    return []


def _judge_fleet(document: dict[str, Any]) -> list[str]:
    fleet, found = fleets.read(document)
    if fleet is None or found:
        return [problem.message for problem in found]
    catalog = catalogs.load().extended(fleet.models, fleet.instance_types, fleet.prices)
    for entry in fleet.models:
        assert catalog.model(entry["name"]).layout()
    return []


def _check(document: dict[str, Any], folder: Path) -> list[str]:
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    fleet = folder / "berth.yaml"
    file = folder / ".shown.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        done = subprocess.run(
            [BERTH, "check", str(file), *(["--fleet", str(fleet)] if fleet.exists() else [])],
            cwd=folder, env=plain, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        file.unlink()
    return [] if done.returncode == 0 else [done.stdout + done.stderr]
