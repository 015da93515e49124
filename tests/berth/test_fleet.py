"""The fleet file is read strictly, says everything that is wrong, and is its own documentation."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from berth import fleet
from berth.workspaces import PodSettings

PAGES = Path(__file__).parents[2] / "docs" / "reference"

FULL: dict[str, Any] = {
    "cloud": "aws",
    "provisioning": "nodepool",
    "gitops": "argocd",
    "kubernetesVersion": "1.34",
    "networkPolicy": "enforced",
    "images": {
        "server": {
            "cuda13": "r.example.com/serving:1",
            "cuda12": "r.example.com/serving:2",
            "cpu": "serving:3",
        },
        "webhook": "r.example.com/webhook:1",
        "watcher": "r.example.com/watcher:1",
        "pullPolicy": "Always",
        "pullSecrets": ["registry"],
    },
    "weights": {
        "source": "image",
        "registry": "r.example.com/models",
        "cache": {"pvc": "weights"},
        "imageVolumes": True,
    },
    "fallbackInstanceTypes": ["g5.xlarge", "g6.xlarge"],
    "instanceTypes": [{"name": "own"}],
    "models": [{"name": "own"}],
    "prices": {"g5.xlarge": {"perHour": 1.5, "currency": "USD"}},
    "budgets": {"chat": {"gpus": 8, "costPerMonth": 1000}, "lab": {}},
    "limits": {
        "cluster": {"nodes": 50, "costPerHour": 200, "createsPerHour": 20},
        "namespaces": {"lab": {"nodes": 2}},
    },
    "pod": {"labels": {"team": "ml"}, "tolerations": [{"operator": "Exists"}], "queue": "gpus"},
    "nodeClass": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"},
    "nodePool": {"staticCapacity": True, "capacityTypes": ["spot", "on-demand"]},
    "monitoring": {"podMonitor": True, "labels": {"release": "prometheus"}},
}


def told(document: Any) -> dict[str, tuple[str, str]]:
    return {problem.field: (problem.reason, problem.fix) for problem in fleet.read(document)[1]}


@pytest.mark.parametrize("document", [None, {}], ids=["an empty file", "an empty mapping"])
def test_without_a_word_the_defaults_hold(document: Any) -> None:
    assert fleet.read(document) == (fleet.Fleet(), [])


def test_every_field_arrives() -> None:
    found, problems = fleet.read(FULL)
    assert problems == []
    assert found is not None
    assert found.cloud == "aws"
    assert found.images.serving("cuda12") == "r.example.com/serving:2"
    assert found.weights.cache == fleet.WeightsCache(pvc="weights")
    assert found.fallback_instance_types == ("g5.xlarge", "g6.xlarge")
    assert found.budgets["chat"] == fleet.Budget(gpus=8, cost_per_month=1000)
    assert found.limits.cluster == fleet.Limit(nodes=50, cost_per_hour=200, creates_per_hour=20)
    assert found.limits.namespaces == {"lab": fleet.Limit(nodes=2)}
    assert found.pod == PodSettings(
        labels={"team": "ml"}, tolerations=({"operator": "Exists"},), queue="gpus"
    )
    assert found.new_node_class == fleet.NodeClass(group="karpenter.k8s.aws", kind="EC2NodeClass", name="gpu")


def test_what_is_read_is_what_is_written_again() -> None:
    found, _ = fleet.read(FULL)
    assert found is not None
    again, problems = fleet.read(json.loads(json.dumps(found.to_json())))
    assert problems == []
    assert again == found
    assert again.digest == found.digest


def test_a_default_that_is_written_out_changes_no_digest() -> None:
    found, _ = fleet.read({"cloud": "azure", "weights": {"source": "hf"}, "pod": {}})
    assert found is not None
    assert found.digest == fleet.Fleet().digest


def test_what_differs_has_another_digest() -> None:
    digests = {fleet.Fleet().digest}
    for name, value in FULL.items():
        found, _ = fleet.read({name: value})
        if found is not None:
            digests.add(found.digest)
    assert len(digests) == len(FULL) + 1


@pytest.mark.parametrize(
    ("version", "weights", "expected"),
    [
        ("1.34", {}, None),
        ("1.35", {}, True),
        ("1.36", {"source": "hf"}, True),
        ("1.36", {"imageVolumes": False}, False),
        ("1.31", {"imageVolumes": True}, True),
    ],
    ids=["not before 1.35", "from 1.35", "beside other settings", "switched off", "switched on"],
)
def test_the_version_decides_on_image_volumes_unless_the_file_does(
    version: str, weights: dict[str, Any], expected: bool | None
) -> None:
    found, _ = fleet.read({"kubernetesVersion": version, "weights": weights})
    assert found is not None
    assert found.weights.image_volumes is expected


CASES: dict[str, tuple[Any, str, str, str]] = {
    "no mapping": (
        ["azure"],
        "",
        "expected a mapping, found a list",
        "write it as `key: value` lines; see docs/reference/fleet.md",
    ),
    "a misspelt field": (
        {"budget": {}},
        "budget",
        "unknown field `budget`",
        "write `budgets`",
    ),
    "the wrong case": (
        {"networkpolicy": "none"},
        "networkpolicy",
        "unknown field `networkpolicy`",
        "write `networkPolicy`: upper and lower case matter",
    ),
    "Python's names are no names here": (
        {"network_policy": "none"},
        "network_policy",
        "unknown field `network_policy`",
        "write `networkPolicy`",
    ),
    "an unknown field below": (
        {"budgets": {"chat": {"gpu": 1}}},
        "budgets.chat.gpu",
        "unknown field `gpu`",
        "write `gpus`",
    ),
    "an unknown field in a list's entry": (
        {"pod": {"tolerations": [{"kye": "a", "operator": "Exists"}]}},
        "pod.tolerations[0].kye",
        "unknown field `kye`",
        "write `key`",
    ),
    "one of a few words": (
        {"cloud": "Azure"},
        "cloud",
        '"Azure" is not one of `azure`, `aws` and `gcp`',
        "write `azure`",
    ),
    "a number for a text": (
        {"kubernetesVersion": 1.33},
        "kubernetesVersion",
        "expected a text, found 1.33",
        "write it in quotes",
    ),
    "a text for a number": (
        {"budgets": {"chat": {"gpus": "8"}}},
        "budgets.chat.gpus",
        'expected a whole number, found the text "8"',
        "write a whole number without quotes",
    ),
    "true for a number": (
        {"budgets": {"chat": {"gpus": True}}},
        "budgets.chat.gpus",
        "expected a whole number, found true",
        "write a whole number without quotes",
    ),
    "nan": (
        {"budgets": {"chat": {"costPerMonth": float("nan")}}},
        "budgets.chat.costPerMonth",
        "expected a number, found nan",
        "write a number",
    ),
    "a kind for several nodes that there is not": (
        {"severalNodes": "leaderworkersets"},
        "severalNodes",
        '"leaderworkersets" is not one of `statefulset` and `leaderworkerset`',
        "write `leaderworkerset`",
    ),
    "a limit below zero": (
        {"limits": {"cluster": {"nodes": -1}}},
        "limits.cluster.nodes",
        "`nodes` is -1; it has to be at least 0",
        "write a number of at least 0",
    ),
    "below zero": (
        {"budgets": {"chat": {"gpus": -1}}},
        "budgets.chat.gpus",
        "`gpus` is -1; it has to be at least 0",
        "write a number of at least 0",
    ),
    "null": (
        {"cloud": None},
        "cloud",
        "`cloud` has no value (null)",
        "give it a value or leave it out",
    ),
    "null where nothing is the default": (
        {"weights": {"registry": None}},
        "weights.registry",
        "`registry` has no value (null)",
        "give it a value or leave it out",
    ),
    "a text for a list": (
        {"fallbackInstanceTypes": "g5.xlarge"},
        "fallbackInstanceTypes",
        'expected a list, found the text "g5.xlarge"',
        "write it as a list: `- ` before each entry",
    ),
    "an empty list that needs an entry": (
        {"nodePool": {"capacityTypes": []}},
        "nodePool.capacityTypes",
        "`capacityTypes` is empty",
        "give at least one entry",
    ),
    "a name that Kubernetes does not take": (
        {"budgets": {"Team A": {}}},
        "budgets[Team A]",
        '"Team A" is no DNS label (lower-case letters, digits and `-`, which stands neither first nor last)',
        "write `team-a`",
    ),
    "a key that is no text": (
        {"budgets": {7: {}}},
        "budgets.7",
        "the key 7 is no text",
        "write it in quotes",
    ),
    "a missing field": (
        {"nodeClass": {"group": "karpenter.k8s.aws"}},
        "nodeClass.kind",
        "`kind` is missing",
        "add `kind`",
    ),
    "images from nowhere": (
        {"weights": {"source": "image"}},
        "weights.registry",
        "`registry` is missing: source `image` takes weights from it",
        "add `registry: registry.example.com/models`, or write source `hf`",
    ),
}


@pytest.mark.parametrize(("document", "field", "reason", "fix"), CASES.values(), ids=CASES.keys())
def test_told_alone_at_its_field(document: Any, field: str, reason: str, fix: str) -> None:
    found, problems = fleet.read(document)
    assert found is None
    assert [(problem.field, problem.reason, problem.fix) for problem in problems] == [(field, reason, fix)]


def test_all_problems_are_told_at_once() -> None:
    document = {
        "cluod": "x",
        "provisioning": "nodes",
        "pod": {"label": {}},
        "models": {},
        "budgets": {"a": 1},
    }
    assert set(told(document)) == {"cluod", "provisioning", "pod.label", "models", "budgets.a"}


def test_what_has_no_effect_is_a_warning() -> None:
    found, problems = fleet.read({"weights": {"registry": "r.example.com"}, "provisioning": "none"})
    assert found is not None
    assert [(problem.field, problem.severity) for problem in problems] == [("weights.registry", "warning")]


@pytest.mark.parametrize(
    ("cloud", "provisioning", "group"),
    [
        ("azure", "nodeclaim", "kaito.sh"),
        ("azure", "nodepool", "karpenter.azure.com"),
        ("aws", "nodeclaim", "karpenter.k8s.aws"),
        ("gcp", "nodepool", "karpenter.k8s.gcp"),
        ("azure", "none", None),
        ("azure", "machine", None),
    ],
)
def test_new_nodes_get_the_clouds_node_class(cloud: str, provisioning: str, group: str | None) -> None:
    found, _ = fleet.read({"cloud": cloud, "provisioning": provisioning})
    assert found is not None
    assert (found.new_node_class.group if found.new_node_class else None) == group


def _models(model: type[BaseModel] = fleet.Fleet) -> list[type[BaseModel]]:
    inside = [
        value
        for value in vars(fleet).values()
        if isinstance(value, type) and issubclass(value, fleet.Settings)
    ]
    return [model, *(one for one in inside if one is not model)]


def test_every_field_says_what_it_means() -> None:
    for model in _models():
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            assert info.description.endswith("."), f"{model.__name__}.{name}"


class TestJsonSchema:
    SCHEMA = fleet.json_schema()

    def test_is_the_published_one(self) -> None:
        published = json.loads((PAGES / "berth.schema.json").read_text(encoding="utf-8"))
        assert published == self.SCHEMA, "run `make docs`"

    def test_takes_what_is_right(self) -> None:
        jsonschema.Draft202012Validator.check_schema(self.SCHEMA)
        jsonschema.validate(FULL, self.SCHEMA)
        jsonschema.validate({}, self.SCHEMA)

    @pytest.mark.parametrize(
        "document",
        [
            case[0]
            for name, case in CASES.items()
            if name not in ("a key that is no text", "nan", "images from nowhere")
        ],
        ids=[name for name in CASES if name not in ("a key that is no text", "nan", "images from nowhere")],
    )
    def test_refuses_what_is_wrong(self, document: Any) -> None:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, self.SCHEMA)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=6), inside, max_size=3),
    max_leaves=12,
)
_keys = st.sampled_from(sorted(FULL)) | st.text(max_size=6)


@given(st.dictionaries(_keys, _values, max_size=5) | _values)
def test_reading_never_raises(document: Any) -> None:
    found, problems = fleet.read(document)
    assert found is not None or any(problem.severity == "error" for problem in problems)
    assert all(problem.reason and problem.fix for problem in problems)
