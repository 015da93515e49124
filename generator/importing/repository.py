"""The fleet repository that an import makes: its fleet file, and one file for each Workspace.

A file that is there already is never changed: importing again adds what is new and names what differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth.errors import UnknownInstanceType
from generator import scaffold, specs
from generator.files import create

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from berth.catalog import Catalog
    from generator.documents import Document

SPECS = "workspaces"
_SCHEMA = "# yaml-language-server: $schema=./berth.schema.json\n"
_CLOUDS = ("azure", "aws", "gcp")


def fleet_text(workspaces: Iterable[dict[str, Any]], catalog: Catalog) -> str:
    """Return a fleet file that fits what was imported: the instance types tell the cloud."""
    types = [name for one in workspaces if (name := _instance_type(one)) is not None]
    clouds = [cloud for name in types if (cloud := _cloud(name, catalog)) is not None]
    cloud = max(_CLOUDS, key=lambda one: (clouds.count(one), -_CLOUDS.index(one)))
    if types:
        provisioning = "nodeclaim      # nodes are made by Karpenter; machine: by its v1alpha5 API"
    else:
        provisioning = "none           # no Workspace names an instance type, so nodes are yours"
    return (
        f"{_SCHEMA}# Made by `berth import` from the Workspaces; berth.schema.json tells every field.\n"
        f"cloud: {cloud}\nprovisioning: {provisioning}\n"
        "gitops: none                 # argocd | flux | none\n"
        "networkPolicy: none          # enforced: the cluster keeps strangers out, so models may span nodes\n"
    )


def file_name(metadata: Any) -> str | None:
    """Return the file of a Workspace, None where its metadata makes no usable name."""
    if not isinstance(metadata, dict):
        return None
    parts = [metadata[key] for key in ("namespace", "name") if metadata.get(key) is not None]
    if metadata.get("name") is None or not all(isinstance(part, str) and _usable(part) for part in parts):
        return None
    return f"{SPECS}/{'_'.join(parts)}.yaml"


def others() -> Iterator[tuple[str, str]]:
    """Yield what every fleet repository has beside its Workspaces and its fleet file."""
    for name, text in scaffold.files():
        if not name.startswith(f"{SPECS}/") and name != "berth.yaml":
            yield name, text


def workspaces(folder: Path) -> dict[tuple[str | None, str], Document]:
    """Return every Workspace that a folder holds already, by namespace and name."""
    if not folder.is_dir():
        return {}
    documents = [one for source in specs.load([str(folder)]) for one in source.documents]
    return {whose: one for one in reversed(documents) if (whose := specs.identity(one)) is not None}


def standing(folder: Path, name: str) -> str | None:
    """Return the text of a file that is there already."""
    place = folder / name
    return place.read_text(encoding="utf-8", errors="replace") if place.exists() else None


def write(folder: Path, name: str, text: str) -> None:
    """Write a file that must not be there yet."""
    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    create(place, text)


def _instance_type(document: dict[str, Any]) -> str | None:
    resource = document.get("resource")
    name = resource.get("instanceType") if isinstance(resource, dict) else None
    return name if isinstance(name, str) and name else None


def _cloud(name: str, catalog: Catalog) -> str | None:
    try:
        return str(catalog.instance_type(name).cloud)
    except UnknownInstanceType:
        return "azure" if name.lower().startswith("standard_") else None


def _usable(name: str) -> bool:
    return 0 < len(name) < 200 and name.replace("-", "a").replace(".", "a").isalnum() and name[0] != "."
