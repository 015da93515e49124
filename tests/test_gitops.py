"""What Argo CD and Flux make of a Workspace: their own languages, run by real interpreters.

`BERTH_GITOPS_CRDS=FOLDER` names a folder with the CRDs of Argo CD and Flux; then the examples are validated
against them too.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import pytest
import yaml
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

lua51: Any = importlib.import_module("lupa.lua51")
"""Lua 5.1, as Argo CD's interpreter speaks it."""

ROOT = Path(__file__).resolve().parents[1]
ARGOCD = ROOT / "examples" / "argocd"
FLUX = ROOT / "examples" / "flux"
HEALTH = ARGOCD / "resource_customizations" / "kaito.sh" / "Workspace"
SCRIPT = (HEALTH / "health.lua").read_text()
CASES = yaml.safe_load((HEALTH / "health_test.yaml").read_text())["tests"]
EXAMPLES = sorted([*ARGOCD.glob("*.yaml"), *FLUX.glob("*.yaml")])

_FORBID = """
debug.setmetatable('', nil)
for _, library in ipairs({'string', 'math', 'io', 'os', 'debug', 'coroutine', 'python',
                          'require', 'dofile', 'loadfile'}) do
  _G[library] = nil
end
"""
"""Argo CD opens `table` and the base functions alone, so a string has no methods either."""


def health(document: dict[str, Any]) -> tuple[str, str]:
    """Run the script as Argo CD does: Lua 5.1, the object as the global `obj`, a table as the answer."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.execute(_FORBID)
    lua.globals().obj = lua.table_from(document, recursive=True)
    answer = lua.execute(SCRIPT)
    assert set(answer) == {"status", "message"}
    return answer.status, answer.message


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_argo_cd_shows_the_health(case: dict[str, Any]) -> None:
    document = yaml.safe_load((HEALTH / case["inputPath"]).read_text())
    assert health(document) == (case["healthStatus"]["status"], case["healthStatus"]["message"])


def test_every_object_of_argo_cds_layout_is_in_its_list() -> None:
    assert {f"testdata/{path.name}" for path in (HEALTH / "testdata").iterdir()} == {
        case["inputPath"] for case in CASES
    }


def test_the_script_needs_no_library_that_argo_cd_closes() -> None:
    lua = lua51.LuaRuntime()
    lua.execute(_FORBID)
    with pytest.raises(lua51.LuaError):
        lua.execute("return ('a'):upper()")
    with pytest.raises(lua51.LuaError):
        lua.execute("return string.upper('a')")


def test_the_config_map_holds_the_script_as_it_is_tested() -> None:
    config = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())
    assert config["data"]["resource.customizations.health.kaito.sh_Workspace"] == SCRIPT


def expressions() -> dict[str, str]:
    """The expressions of the example for Flux."""
    (found,) = yaml.safe_load((FLUX / "fleet.yaml").read_text())["spec"]["healthCheckExprs"]
    assert (found["apiVersion"], found["kind"]) == ("kaito.sh/v1beta1", "Workspace")
    return {name: found[name] for name in ("inProgress", "failed", "current")}


def flux(document: dict[str, Any]) -> str:
    """Say what Flux does: the first expression that is true, in its order; an error or none means: wait."""
    environment = celpy.Environment()
    values = {name: json_to_cel(value) for name, value in document.items()}
    for name, text in expressions().items():
        program = environment.program(environment.compile(text))
        try:
            if bool(program.evaluate(values)):
                return name
        except CELEvalError:
            return "wait"
    return "wait"


_AS_ARGO = {"Healthy": {"current"}, "Degraded": {"failed"}, "Progressing": {"inProgress", "wait"}}


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if "kaito" not in Path(case["inputPath"]).stem and "deleting" not in case["inputPath"]
    ],
    ids=lambda case: Path(case["inputPath"]).stem,
)
def test_flux_agrees_with_argo_cd(case: dict[str, Any]) -> None:
    document = yaml.safe_load((HEALTH / case["inputPath"]).read_text())
    assert flux(document) in _AS_ARGO[case["healthStatus"]["status"]]


def kstatus(document: dict[str, Any]) -> str:
    """The rules of kstatus for a kind that it doesn't know, in its order."""
    status = document.get("status", {})
    if "deletionTimestamp" in document["metadata"]:
        return "Terminating"
    if (
        status.get("observedGeneration", document["metadata"]["generation"])
        != document["metadata"]["generation"]
    ):
        return "InProgress"
    found = {one["type"]: one["status"] for one in status.get("conditions", [])}
    if found.get("Reconciling") == "True":
        return "InProgress"
    if found.get("Stalled") == "True":
        return "Failed"
    if found.get("Ready", "True") != "True":
        return "InProgress"
    return "Current"


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if "kaito" not in case["inputPath"]],
    ids=lambda case: Path(case["inputPath"]).stem,
)
def test_kstatus_agrees_unless_there_is_no_status_yet(case: dict[str, Any]) -> None:
    document = yaml.safe_load((HEALTH / case["inputPath"]).read_text())
    expected = {"Healthy": "Current", "Degraded": "Failed", "Progressing": "InProgress"}[
        case["healthStatus"]["status"]
    ]
    if "deletionTimestamp" in document["metadata"]:
        expected = "Terminating"
    if "status" not in document:
        expected = "Current"  # why the example has expressions of its own
    assert kstatus(document) == expected


def test_what_takes_data_or_nodes_with_it_is_not_pruned() -> None:
    platform = yaml.safe_load((ARGOCD / "platform.yaml").read_text())["spec"]
    assert platform["syncPolicy"]["automated"]["prune"] is False
    assert yaml.safe_load((FLUX / "platform.yaml").read_text())["spec"]["prune"] is False
    several = yaml.safe_load((ARGOCD / "applicationset.yaml").read_text())["spec"]
    assert several["syncPolicy"]["preserveResourcesOnDeletion"] is True
    assert several["goTemplateOptions"] == ["missingkey=error"]


def test_flux_substitutes_nothing_in_a_fleet() -> None:
    for path in FLUX.glob("*.yaml"):
        assert "postBuild" not in yaml.safe_load(path.read_text())["spec"]


def _schema(document: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    for path in folder.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())
        spec = definition.get("spec", {})
        if spec.get("names", {}).get("kind") != document["kind"]:
            continue
        for version in spec["versions"]:
            if document["apiVersion"] == f"{spec['group']}/{version['name']}":
                closed: dict[str, Any] = _closed(version["schema"]["openAPIV3Schema"])
                return closed
    return None


def _closed(schema: Any) -> Any:
    """The schema that refuses fields it does not name, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    open_anyway = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not open_anyway:
        closed["additionalProperties"] = False
    return closed


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_the_examples_are_what_the_controllers_understand(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert document["metadata"]["namespace"] in ("argocd", "flux-system")
    given = os.environ.get("BERTH_GITOPS_CRDS")
    if not given:
        pytest.skip("BERTH_GITOPS_CRDS names no folder with the CRDs of Argo CD and Flux")
    schema = _schema(document, Path(given))
    if schema is None:
        pytest.skip(f"no CRD for {document['kind']}")
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(document, schema)
