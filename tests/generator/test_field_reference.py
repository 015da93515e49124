"""The reference pages are fresh, name every field, and their examples are right."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth import fleet, workspaces
from berth.problems import format_path
from berth.spec import metadata, schema

ROOT = Path(__file__).parents[2]


def _tool(name: str) -> Any:
    """A module of tools/, which is no package of the product."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


field_reference = _tool("field_reference")
PAGES = field_reference.files()


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_is_fresh(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name], "run `make docs`"


def test_every_field_of_the_workspace_is_documented() -> None:
    page = field_reference.workspace()
    for path, known in schema.fields():
        if path[0] in ("apiVersion", "kind", "status") or known.description == "Written by the API server.":
            continue
        assert f"| `{format_path(path).replace('[0]', '[]')}`" in page


def test_every_annotation_is_documented() -> None:
    page = field_reference.workspace()
    for name in (*metadata.USED_ANNOTATIONS, *metadata.IGNORED_ANNOTATIONS, *metadata.IGNORED_LABELS):
        assert f"| `{name}` |" in page


def test_every_field_of_the_fleet_file_is_documented() -> None:
    page = field_reference.fleet_file()
    for name, model in vars(fleet).items():
        if not (isinstance(model, type) and issubclass(model, fleet.Settings)) or name == "Settings":
            continue
        for field in model.model_fields.values():
            assert field.description is not None
            assert re.search(
                rf"\| `[^|]*{field.alias}` \|[^|]*\|[^|]*\| {re.escape(field.description)} \|", page
            )


def test_the_examples_are_right() -> None:
    (workspace,) = re.findall(r"```yaml\n(.*?)```", field_reference.workspace(), re.DOTALL)
    assert workspaces.read(yaml.safe_load(workspace)).problems == ()
    (file,) = re.findall(r"```yaml\n(.*?)```", field_reference.fleet_file(), re.DOTALL)
    assert fleet.read(yaml.safe_load(file))[1] == []
