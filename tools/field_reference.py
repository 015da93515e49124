"""The pages docs/reference/{workspace,fleet}.md and the fleet file's JSON Schema, made from the code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth import fleet
from berth.problems import format_path
from berth.spec import metadata, pods, schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.spec.nodes import Field

FOLDER = Path("docs/reference")

WORKSPACE = """\
# The Workspace

<!-- Made by `make docs` from the fields themselves; do not edit. -->

`kaito.sh/v1alpha1` and `kaito.sh/v1beta1` mean the same: every field of both is known in both. Field names
are case-sensitive. An absent field is the planner's choice; null is a mistake.

```yaml
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: workspace-falcon-7b}
resource:
  instanceType: "Standard_NC12s_v3"
  labelSelector: {matchLabels: {apps: falcon-7b}}
inference:
  preset: {name: "falcon-7b"}
```

Numbers and words are read as `kubectl` reads YAML: `yes` and `on` are booleans, `010` is eight, `1e3` is a
thousand; dates and `1:30` are texts.
"""
FLEET = """\
# The fleet file

<!-- Made by `make docs` from the fields themselves; do not edit. -->

`berth.yaml` at the root of a repository holds for every Workspace below it; the nearest one above a path
counts.
Every field has a default, and without the file the defaults hold. Editors check it with
[berth.schema.json](berth.schema.json):

```yaml
# yaml-language-server: $schema=./berth.schema.json
cloud: azure
networkPolicy: enforced
budgets:
  chat: {gpus: 8}
limits:
  cluster: {nodes: 20, createsPerHour: 10}
```
"""
_USES = {"used": "", "warning": "**Not used; a warning.** ", "refused": "**Refused.** "}
_SERVER_SIDE = "Written by the API server."


def files() -> dict[str, str]:
    """Return every page's text by its path."""
    return {
        f"{FOLDER}/workspace.md": workspace(),
        f"{FOLDER}/fleet.md": fleet_file(),
        f"{FOLDER}/berth.schema.json": json.dumps(fleet.json_schema(), indent=2) + "\n",
    }


def workspace() -> str:
    """Return the page of the Workspace's fields, annotations and labels."""
    return "\n".join([WORKSPACE, *_workspace_sections()]).rstrip() + "\n"


def fleet_file() -> str:
    """Return the page of the fleet file's fields."""
    document = fleet.json_schema()
    definitions = document["$defs"]
    sections = [FLEET, _table(("field", "values", "default", "meaning"))]
    sections += [_row(row) for row in _fleet_rows(document, definitions, "")]
    return "\n".join(sections) + "\n"


def _workspace_sections() -> Iterator[str]:
    titles = {
        "metadata": "Metadata",
        "resource": "Nodes: `resource`",
        "inference": "The model: `inference`",
        "llamacpp": "How it is served: `inference.llamacpp`",
        "tuning": "Training: `tuning`",
    }
    rows: dict[str, list[tuple[str, Field]]] = {title: [] for title in titles}
    for path, known in schema.fields():
        group = "llamacpp" if path[:2] == ("inference", "llamacpp") else str(path[0])
        if group in rows and known.description != _SERVER_SIDE:
            rows[group].append((format_path(path).replace("[0]", "[]"), known))
    for group, title in titles.items():
        yield f"## {title}\n\n{_table(('field', 'values', 'meaning'))}"
        for name, known in rows[group]:
            yield _row(
                (f"`{name}`{' (required)' if known.required else ''}", known.node.kind, _meaning(known))
            )
        yield ""
    yield f"## Annotations\n\n{_table(('annotation', 'effect'))}"
    for name, effect in metadata.USED_ANNOTATIONS.items():
        yield _row((f"`{name}`", effect))
    for name, (reason, fix) in metadata.IGNORED_ANNOTATIONS.items():
        yield _row((f"`{name}`", f"A warning: {reason}; {fix}."))
    yield "\nAnnotations of other groups are left alone.\n"
    yield f"## Labels\n\n{_table(('label', 'effect'))}"
    for name, (reason, fix) in metadata.IGNORED_LABELS.items():
        yield _row((f"`{name}`", f"A warning: {reason}; {fix}."))


def _meaning(known: Field) -> str:
    default = f" Default: `{known.default}`." if known.default else ""
    return f"{_USES[known.use]}{known.description} {known.note}".strip() + default


def _fleet_rows(node: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[tuple[str, ...]]:
    required = node.get("required", [])
    for name, field in node.get("properties", {}).items():
        inside = _resolved(field, definitions)
        path = f"{prefix}{name}"
        default = field.get("default", inside.get("default"))
        shown = "required" if name in required else _default(default)
        yield (
            f"`{path}`",
            _values(field, definitions),
            shown,
            field.get("description", inside.get("description", "")),
        )
        if path == "pod":
            yield from _pod_rows()
            continue
        for entries in inside.get("patternProperties", {}).values():
            yield from _fleet_rows(_resolved(entries, definitions), definitions, f"{path}.<namespace>.")
        yield from _fleet_rows(inside, definitions, f"{path}.")


def _pod_rows() -> Iterator[tuple[str, ...]]:
    for path, known in schema.fields(pods.POD, ("pod",)):
        name = format_path(path).replace("[0]", "[]")
        yield f"`{name}`", known.node.kind, f"`{known.default}`" if known.default else "", known.description


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref") or next(
        (part["$ref"] for part in field.get("allOf", []) if "$ref" in part), None
    )
    return definitions[reference.rsplit("/", 1)[-1]] if reference else field


def _values(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    inside = _resolved(field, definitions)
    if "enum" in inside:
        return " or ".join(f"`{choice}`" for choice in inside["enum"])
    kinds = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    kind = str(inside.get("type", "mapping"))
    if kind == "array":
        return f"list of {_values(inside['items'], definitions)}"
    return kinds.get(kind, "mapping")


def _default(value: Any) -> str:
    if value in (None, "", [], {}) or isinstance(value, dict):
        return ""
    return f"`{json.dumps(value).strip(chr(34))}`"


def _table(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    """Write the pages."""
    for name, text in files().items():
        Path(name).write_text(text, encoding="utf-8", newline="\n")
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
