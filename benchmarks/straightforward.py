"""The program that `render_cold.py` compares with: plain cdk8s, as its documentation shows it.

It gets the objects ready-made as JSON, so it neither reads specs nor plans: one constructor and one patch for
each object, then `App.synth()`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cdk8s


def main() -> None:
    """Render `objects.json` to a folder: a chart for each Workspace, a file for each object."""
    source, out = sys.argv[1:]
    folders: dict[str, list[dict[str, Any]]] = json.loads(Path(source).read_text(encoding="utf-8"))
    app = cdk8s.App(outdir=out, yaml_output_type=cdk8s.YamlOutputType.FOLDER_PER_CHART_FILE_PER_RESOURCE)
    for name, objects in folders.items():
        chart = cdk8s.Chart(app, name, disable_resource_name_hashes=True)
        for index, thing in enumerate(objects):
            add(chart, str(index), thing)
    app.synth()


def add(chart: cdk8s.Chart, name: str, thing: dict[str, Any]) -> None:
    """Add one object."""
    metadata = thing["metadata"]
    made = cdk8s.ApiObject(
        chart,
        name,
        api_version=thing["apiVersion"],
        kind=thing["kind"],
        metadata=cdk8s.ApiObjectMetadata(
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            labels=metadata.get("labels"),
            annotations=metadata.get("annotations"),
        ),
    )
    fields = {key: value for key, value in thing.items() if key not in ("apiVersion", "kind", "metadata")}
    made.add_json_patch(*(cdk8s.JsonPatch.add(f"/{key}", value) for key, value in fields.items()))


if __name__ == "__main__":
    main()
