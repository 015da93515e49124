"""The LoRA adapters of a Workspace: where each comes from, and what of it the plan counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.plans import Adapter

if TYPE_CHECKING:
    from berth.workspaces import Workspace


def of(workspace: Workspace) -> tuple[Adapter, ...]:
    """Return the adapters in the Workspace's order, which is the order of the engine's own numbers.

    An image counts as pinned by its digest, a file by its sha256, as the model's own weights do. Of a spec
    with problems, those are returned of which all is known.
    """
    preset = workspace.inference.preset
    secrets = tuple(preset.pull_secrets) if preset else ()
    files = {
        entry["name"]: entry
        for entry in workspace.inference.llamacpp.adapters
        if entry.keys() >= {"name", "file", "size"}
    }
    found = []
    for adapter in workspace.inference.adapters:
        source = adapter.get("source", {})
        file = files.get(source.get("name"))
        if file is None or "image" not in source:
            continue
        found.append(
            Adapter(
                name=source["name"],
                image=source["image"],
                pull_secrets=tuple(source.get("imagePullSecrets", ())) or secrets,
                file=file["file"],
                size=file["size"],
                sha256=file.get("sha256"),
                strength=float(adapter.get("strength", "1")),
                pinned="@sha256:" in source["image"] or "sha256" in file,
            )
        )
    return tuple(found)
