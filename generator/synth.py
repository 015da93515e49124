"""Charts become files: cdk8s makes the objects, and every object has a file of its own.

Deterministic: the same objects give the same bytes. Nothing here touches the disk; `generator.store` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.errors import BerthError
from generator import bridge, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from generator.charts.frames import Object

KUSTOMIZATION = "kustomization.yaml"


class CollisionError(BerthError):
    """Two objects would be one file."""


def folder_name(namespace: str | None, name: str) -> str:
    """Return the folder of a Workspace below the output folder.

    `_` stands in no namespace and no name, so no two Workspaces share a folder; an absent namespace is no
    part of it.

    >>> folder_name(None, "falcon-7b"), folder_name("chat", "falcon-7b")
    ('falcon-7b', 'chat_falcon-7b')
    """
    return name if namespace is None else f"{namespace}_{name}"


def render(folders: Iterable[bridge.Chart]) -> dict[str, dict[str, str]]:
    """Return the text of every file, by its folder and its name there; a chart's id is its folder.

    Raises:
        BridgeError: Node or cdk8s does not work.
        CollisionError: two objects would be one file.
    """
    made: dict[str, dict[str, str]] = {}
    for path, objects in _made(folders):
        files = {file_name(thing): texts.file(thing) for thing in objects}
        if len(files) < len(objects) or path in made:
            raise CollisionError(f"two objects of {path} would be one file")
        made[path] = {**files, KUSTOMIZATION: kustomization(files)}
    return made


def stream(folders: Iterable[bridge.Chart]) -> str:
    """Return everything as one text, Workspace by Workspace in apply order."""
    return texts.stream([thing for _, objects in _made(folders) for thing in objects])


def _made(folders: Iterable[bridge.Chart]) -> Iterator[tuple[str, list[Object]]]:
    """Yield each folder's path with its objects as cdk8s made them."""
    charts = list(folders)
    for chart, objects in zip(charts, bridge.made(charts), strict=True):
        yield chart.id, objects


def file_name(thing: Object) -> str:
    """Return an object's file name; in one folder no two objects have one kind and one name."""
    return f"{thing['kind'].lower()}-{thing['metadata']['name']}.yaml"


def kustomization(entries: Iterable[str]) -> str:
    """Return the text of a kustomization.yaml that names files or folders."""
    return texts.file(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": list(entries),
        }
    )
