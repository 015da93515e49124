"""The whole Workspace: every field of both KAITO versions, and berth's own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from berth import labels
from berth.problems import Path, format_path
from berth.spec import inference, metadata, resources
from berth.spec.nodes import Field, Opaque, Refused, Sequence, Struct
from berth.spec.values import Node, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.spec.reports import Report

API_VERSIONS = tuple(f"{labels.GROUP}/{version}" for version in labels.VERSIONS)


def _judge_workspace(workspace: dict[str, Any], path: Path, report: Report) -> None:
    missing = not workspace.keys() & {"inference", "tuning"}
    if missing and not report.broken & {("inference",), ("tuning",)}:
        report.error(
            (*path, "inference"),
            None,
            "`inference` is missing",
            "add `inference: {preset: {name: …}}` with a model of `berth presets`",
            "missing",
        )


WORKSPACE = Struct(
    {
        "apiVersion": Field(
            Text(choices=API_VERSIONS), "Version of the Workspace; both mean the same.", required=True
        ),
        "kind": Field(Text(choices=(labels.KIND,)), "Always `Workspace`.", required=True),
        "metadata": Field(metadata.METADATA, "Name, namespace, labels and annotations.", required=True),
        "resource": Field(resources.RESOURCE, "The nodes that the Workspace runs on."),
        "inference": Field(inference.INFERENCE, "What is served; required."),
        "tuning": Field(
            Refused(inference.TUNING),
            "Training (KAITO v1beta1).",
            use="refused",
            note="berth serves models and does not train them.",
            verdict=inference.refuse_tuning,
        ),
        "status": Field(Opaque(), "Written by the watcher."),
    },
    hints={
        "spec": "remove this level: a Workspace has no `spec`, its fields stand at the top",
        "preset": "move it to `inference.preset`",
        "llamacpp": "move it to `inference.llamacpp`",
        "template": "move it to `inference.template`",
    },
    verdict=_judge_workspace,
)


def fields(struct: Struct = WORKSPACE, path: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Every field of the schema with its path, parents first; a list's entries stand under `0`."""
    for name, known in struct.fields.items():
        yield (*path, name), known
        inside: Node = known.node
        here: Path = (*path, name)
        while isinstance(inside, Sequence):
            inside, here = inside.item, (*here, 0)
        if isinstance(inside, Refused):
            inside = inside.inside
        if isinstance(inside, Struct):
            yield from fields(inside, here)


def _places() -> dict[str, str]:
    """Field names that stand at one place only, in lower case, with that place."""
    found = [
        (str(path[-1]).lower(), format_path(path))
        for path, _ in fields()
        if path[0] in ("resource", "inference") and 0 not in path and "adapters" not in path
    ]
    counts = Counter(name for name, _ in found)
    return {name: place for name, place in found if counts[name] == 1}


PLACES = _places()
