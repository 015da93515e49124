"""The CRD says what the reader says, as far as a schema can, and hides no absence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from berth import workspaces
from berth.spec import schema
from generator import crd, platform
from generator.platform import output

FOLDER = Path(__file__).parents[2] / "manifests" / "platform"
FILES = {name: text for name, text in platform.files(platform.Settings()).items() if name.startswith("crds/")}
DEFINITION = crd.definition()
SCHEMA = DEFINITION["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def document(**parts: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "falcon"},
        "inference": {"preset": {"name": "falcon-7b"}},
        **parts,
    }


def llamacpp(**fields: Any) -> dict[str, Any]:
    return document(inference={"preset": {"name": "falcon-7b"}, "llamacpp": fields})


def strict(node: Any) -> Any:
    """The schema as the API server's strict decoding applies it: unknown fields are refused."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    inside = {key: strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        inside.setdefault("additionalProperties", False)
    return inside


STRICT = jsonschema.Draft202012Validator(strict(SCHEMA))


def accepted(data: dict[str, Any]) -> bool:
    return bool(STRICT.is_valid(data))


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below a schema."""
    yield path, node
    for name, inside in node.get("properties", {}).items():
        yield from nodes(inside, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            yield from nodes(node[name], f"{path}[]")


@pytest.mark.parametrize("name", FILES)
def test_the_manifests_are_fresh(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == FILES[name], "run `make docs`"


@pytest.mark.parametrize("item", [DEFINITION, *crd.roles()], ids=["the definition", "view", "edit"])
def test_kubernetes_takes_the_objects(item: dict[str, Any]) -> None:
    kubernetes_validate.validate(item, "1.33", strict=True)


def test_both_versions_are_served_alike_and_one_is_stored() -> None:
    first, second = DEFINITION["spec"]["versions"]
    assert [first["name"], second["name"]] == ["v1alpha1", "v1beta1"]
    assert [first["storage"], second["storage"]] == [False, True]
    assert first["served"]
    assert second["served"]
    assert {**first, "name": "", "storage": True} == {**second, "name": ""}
    assert DEFINITION["spec"]["conversion"] == {"strategy": "None"}


def test_the_names_are_the_originals() -> None:
    names = DEFINITION["spec"]["names"]
    assert (names["plural"], names["shortNames"], names["categories"]) == (
        "workspaces",
        ["wk", "wks"],
        ["workspace"],
    )


def test_the_default_columns_are_the_originals() -> None:
    columns = DEFINITION["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if not column.get("priority")]
    assert shown == ["Instance", "ResourceReady", "InferenceReady", "WorkspaceReady", "Age"]


def test_nothing_has_a_default() -> None:
    assert [path for path, node in nodes(SCHEMA) if "default" in node] == []


def test_every_field_has_a_type_and_a_description() -> None:
    for path, node in nodes(SCHEMA):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        if path and not path.endswith("]") and path != ".metadata":
            assert node.get("description"), path


def test_the_schema_is_structural() -> None:
    for path, node in nodes(SCHEMA):
        assert not ("properties" in node and "additionalProperties" in node), path
        assert not node.keys() & {"$ref", "oneOf", "allOf", "not", "patternProperties"}, path
        if "anyOf" in node:
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}], path


def test_the_cost_of_rules_is_bounded() -> None:
    """Texts, lists and maps that a rule may touch have a largest size."""
    for path, node in nodes(SCHEMA):
        if path.startswith((".inference", ".resource")):
            if node.get("type") == "string":
                assert "enum" in node or "maxLength" in node, path
            if node.get("type") == "array":
                assert "maxItems" in node, path
            if "additionalProperties" in node:
                assert "maxProperties" in node, path


def test_every_field_that_is_read_is_in_the_schema() -> None:
    known = {path for path, _ in nodes(SCHEMA)}
    for path, _ in schema.fields():
        written = "".join("[]" if part == 0 else f".{part}" for part in path)
        if not written.startswith((".metadata.", ".status.")):
            assert written in known, written


RIGHT: dict[str, dict[str, Any]] = {
    # From Azure/kaito v0.1.0 (MIT): README.md and examples/.
    "the original's quick start": {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "workspace-falcon-7b"},
        "resource": {
            "instanceType": "Standard_NC12s_v3",
            "labelSelector": {"matchLabels": {"apps": "falcon-7b"}},
        },
        "inference": {"preset": {"name": "falcon-7b"}},
    },
    "a private image's placeholder": document(
        inference={
            "preset": {
                "name": "llama-2-13b-chat",
                "accessMode": "private",
                "presetOptions": {"image": "<YOUR IMAGE URL>"},
            }
        }
    ),
    "the fewest words": document(),
    "a context that is a number": llamacpp(contextSize=4096),
    "a context that is a word": llamacpp(contextSize="auto"),
    "weights of one's own": llamacpp(weights={"pvc": "models", "file": "a/b.gguf"}),
    "a template": document(inference={"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}),
    "an ingress": llamacpp(expose={"ingress": {"host": "a.example.com"}}),
    "tolerations": llamacpp(pod={"tolerations": [{"key": "a", "operator": "Exists"}]}),
    "expressions": document(
        resource={"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}
    ),
}

WRONG: dict[str, dict[str, Any]] = {
    # The field that kaito v0.1.0's config/samples has and its CRD has not.
    "the original's sample": document(inference={"preset": {"name": "x", "volume": [{"name": "dshm"}]}}),
    "no preset's name": document(inference={"preset": {}}),
    "a misspelt field": document(resource={"instancetype": "x"}),
    "a count in quotes": document(resource={"count": "2"}),
    "no nodes": document(resource={"count": 0}),
    "too many nodes": document(resource={"count": 10**12}),
    "a null": document(resource={"count": None}),
    "a label that is a number": document(resource={"labelSelector": {"matchLabels": {"a": 1}}}),
    "an unknown operator": document(
        resource={"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}
    ),
    "an unknown cache type": llamacpp(cacheTypeK="q8"),
    "too many slots": llamacpp(parallel=257),
    "a file outside": llamacpp(weights={"pvc": "a", "file": "../a.gguf"}),
    "a host of blanks": llamacpp(expose={"ingress": {"host": "a b"}}),
    "a route to nowhere": llamacpp(expose={"httpRoute": {"parentRefs": []}}),
}


@pytest.mark.parametrize("data", RIGHT.values(), ids=RIGHT.keys())
def test_takes_what_the_reader_takes(data: dict[str, Any]) -> None:
    assert workspaces.read(data).valid
    assert accepted(data)


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_refuses_what_the_reader_refuses(data: dict[str, Any]) -> None:
    assert not workspaces.read(data).valid
    assert not accepted(data)


def test_what_a_schema_can_judge_across_fields_is_a_rule() -> None:
    rules = {
        path: [rule["rule"] for rule in node["x-kubernetes-validations"]]
        for path, node in nodes(SCHEMA)
        if "x-kubernetes-validations" in node
    }
    assert rules[""][0] == "has(self.inference) || has(self.tuning)"
    assert rules[".inference"][0] == "has(self.preset) != has(self.template)"
    assert rules[".inference.llamacpp.expose"] == ["has(self.ingress) != has(self.httpRoute)"]
    assert rules[".resource.partition"] == ["false"]
    assert rules[".tuning"] == ["false"]
    assert rules[".inference.adapters[].source.urls"] == ["self.size() == 0"]
    assert rules[".inference"][2].startswith("!has(self.adapters) || self.adapters.all(")
    assert len(rules[".inference.llamacpp.weights"]) == 6
    assert rules.keys() >= {".inference.llamacpp", ".inference.llamacpp.contextSize"}


def test_the_roles_join_kubernetes_own() -> None:
    view, edit = crd.roles()
    assert view["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert set(edit["metadata"]["labels"]) >= {
        "rbac.authorization.k8s.io/aggregate-to-edit",
        "rbac.authorization.k8s.io/aggregate-to-admin",
    }
    assert "workspaces/status" not in edit["rules"][0]["resources"]


def test_the_command_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output.command_line(str(tmp_path), check=False, fleet=None, certificates="own") == 0
    written = {
        f"crds/{path.name}": path.read_text(encoding="utf-8") for path in (tmp_path / "crds").iterdir()
    }
    assert written == FILES
    assert yaml.safe_load(written["crds/customresourcedefinition-workspaces.kaito.sh.yaml"]) == DEFINITION
    assert len(written) == 3
    files = sum(path.is_file() for path in tmp_path.rglob("*"))
    assert f"{files} written" in capsys.readouterr().err
