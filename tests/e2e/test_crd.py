"""The Workspace CRD on a real API server: what it takes, what it refuses, and that it adds nothing."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog, rules, workspaces
from berth.fleet import Fleet

if TYPE_CHECKING:
    from tests.e2e.conftest import Kubectl

SELECTOR = {"matchLabels": {"apps": "falcon-7b"}}
SPEC: dict[str, Any] = {
    "resource": {"instanceType": "Standard_NC12s_v3", "labelSelector": SELECTOR},
    "inference": {"preset": {"name": "falcon-7b"}},
}
TEMPLATE = {"spec": {"containers": [{"name": "main", "image": "example.com/main:1", "futureField": [1]}]}}
PRIVATE = {
    "name": "llama-2-7b-chat",
    "accessMode": "private",
    "presetOptions": {"image": "<YOUR_IMAGE_URL>", "imagePullSecrets": ["registry"]},
}
POD = {
    "labels": {"team": "search"},
    "annotations": {"note": "x"},
    "tolerations": [{"key": "pool", "operator": "Exists", "effect": "NoSchedule"}],
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "serviceAccountName": "models",
    "imagePullSecrets": ["registry"],
    "queue": "gpus",
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "the original's quick start": {},
    "a count and preferred nodes": {"resource": {"count": 2, "preferredNodes": ["node-1"]}},
    "neither instance type nor count": {"resource": {"instanceType": None}},
    "expressions": {
        "resource": {
            "labelSelector": {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["a", "b"]}]}
        }
    },
    "no selector at all": {"resource": {"labelSelector": None}},
    "a private image with a placeholder": {"inference": {"preset": PRIVATE}},
    "a pod of one's own with fields of tomorrow": {"inference": {"preset": None, "template": TEMPLATE}},
    "an engine configuration": {"inference": {"config": "engine"}},
    "no adapters": {"inference": {"adapters": []}},
    "two adapters": {
        "inference": {
            "adapters": [
                {"source": {"name": "a", "image": "e/a:1"}, "strength": "0.5"},
                {"source": {"name": "b", "image": "e/b:1"}},
            ],
            "llamacpp": {
                "adapters": [
                    {"name": "b", "file": "b.gguf", "size": 2**33},
                    {"name": "a", "file": "a.gguf", "size": 1, "sha256": "a" * 64},
                ]
            },
        }
    },
    "the context as a number": {
        "inference": {"llamacpp": {"contextSize": 8192, "parallel": 2, "replicas": 3}}
    },
    "the context as a word": {"inference": {"llamacpp": {"contextSize": "auto", "quantization": "Q8_0"}}},
    "both cache types": {"inference": {"llamacpp": {"cacheTypeK": "q8_0", "cacheTypeV": "q8_0"}}},
    "weights of a hub": {
        "inference": {
            "llamacpp": {"weights": {"hf": "org/model-GGUF", "revision": "main", "file": "model.Q4_K_M.gguf"}}
        }
    },
    "weights of an image": {
        "inference": {"llamacpp": {"weights": {"image": "example.com/weights:1", "file": "model.gguf"}}}
    },
    "weights of a claim": {"inference": {"llamacpp": {"weights": {"pvc": "models", "file": "a/model.gguf"}}}},
    "everything of a pod": {"inference": {"llamacpp": {"pod": POD}}},
    "a host": {"inference": {"llamacpp": {"expose": {"ingress": {"host": "chat.example.com"}}}}},
    "a gateway": {
        "inference": {
            "llamacpp": {"expose": {"httpRoute": {"parentRefs": [{"name": "public", "namespace": "infra"}]}}}
        }
    },
    "arguments": {"inference": {"llamacpp": {"extraArgs": ["--threads", "8"]}}},
    "images, as the preset's entry says": {
        "inference": {"preset": {"name": "gemma-3-4b-it"}, "llamacpp": {"mmproj": {}}}
    },
    "images, bounded and with a file of one's own": {
        "inference": {
            "preset": {"name": "qwen3.5-4b"},
            "llamacpp": {"mmproj": {"file": "a/mmproj.gguf", "sha256": "a" * 64, "maxImageTokens": 1024}},
        }
    },
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt field": ({"resource": {"instancetype": "x"}}, "instancetype"),
    "a field below spec": ({"spec": {}}, "unknown field"),
    "neither preset nor template": ({"inference": {"preset": None}}, "exactly one of preset and template"),
    "both preset and template": ({"inference": {"template": TEMPLATE}}, "exactly one of preset and template"),
    "no inference": ({"inference": None}, "inference is missing"),
    "a preset without a name": ({"inference": {"preset": {"name": None, "accessMode": "public"}}}, "name"),
    "an access mode of no kind": (
        {"inference": {"preset": {"name": "falcon-7b", "accessMode": "Private"}}}, "Unsupported value",
    ),
    "no nodes": ({"resource": {"count": 0}}, "greater than or equal to 1"),
    "a count beyond reason": ({"resource": {"count": 10**12}}, "less than or equal to"),
    "a count in quotes": ({"resource": {"count": "2"}}, "integer"),
    "an instance type with blanks": ({"resource": {"instanceType": "two words"}}, "should match"),
    "a context of another word": ({"inference": {"llamacpp": {"contextSize": "max"}}}, "or auto"),
    "no context": ({"inference": {"llamacpp": {"contextSize": 0}}}, "or auto"),
    "half a slot": ({"inference": {"llamacpp": {"parallel": 0}}}, "greater than or equal to 1"),
    "an unknown cache type": ({"inference": {"llamacpp": {"cacheTypeK": "q3"}}}, "Unsupported value"),
    "one cache type alone": ({"inference": {"llamacpp": {"cacheTypeK": "q8_0"}}}, "have to be the same"),
    "two sources of weights": (
        {"inference": {"llamacpp": {"weights": {"hf": "o/m", "pvc": "p"}}}}, "exactly one of",
    ),
    "a claim without a file": ({"inference": {"llamacpp": {"weights": {"pvc": "p"}}}}, "file is needed"),
    "a file outside the weights": (
        {"inference": {"llamacpp": {"weights": {"pvc": "p", "file": "../m.gguf"}}}}, "should match",
    ),
    "a stamp without a sha256": (
        {"inference": {"llamacpp": {"weights": {"pvc": "p", "file": "m.gguf", "stamp": True}}}},
        "stamp needs sha256",
    ),
    "a token for an image": (
        {"inference": {"llamacpp": {"weights": {"image": "e/w", "file": "m.gguf", "tokenSecret": "t"}}}},
        "need hf",
    ),
    "two ways in": (
        {"inference": {"llamacpp": {"expose": {
            "ingress": {"host": "a.b"}, "httpRoute": {"parentRefs": [{"name": "g"}]},
        }}}},
        "exactly one of ingress",
    ),
    "images of no tokens": (
        {"inference": {"llamacpp": {"mmproj": {"maxImageTokens": 0}}}}, "greater than or equal to 1",
    ),
    "a projector outside the weights": (
        {"inference": {"llamacpp": {"mmproj": {"file": "/mmproj.gguf"}}}}, "should match",
    ),
    "a projector with a source of its own": (
        {"inference": {"llamacpp": {"mmproj": {"hf": "o/m"}}}}, "unknown field",
    ),
    "a projector for a pod of one's own": (
        {"inference": {"preset": None, "template": TEMPLATE, "llamacpp": {"mmproj": {}}}},
        "mean nothing with template",
    ),
    "an adapter of unknown size": (
        {"inference": {"adapters": [{"source": {"name": "a", "image": "e/a:1"}}]}}, "its file and size",
    ),
    "an adapter from URLs": (
        {"inference": {"adapters": [{"source": {"name": "a", "image": "e/a:1", "urls": ["http://a"]}}]}},
        "not supported",
    ),
    "a part of a GPU": ({"resource": {"partition": {"mode": "mig", "profile": "1g.10gb"}}}, "not supported"),
    "training": (
        {"inference": None, "tuning": {"preset": {"name": "falcon-7b"}, "method": "lora"}}, "does not train",
    ),
}  # fmt: skip


def workspace(version: str = "v1alpha1", name: str = "assistant", **changes: Any) -> dict[str, Any]:
    """Make a Workspace from the quick start; None takes a field away, mappings are merged."""
    document = {"apiVersion": f"kaito.sh/{version}", "kind": "Workspace", "metadata": {"name": name}}
    return {**document, **merged(copy.deepcopy(SPEC), changes)}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged(base[key], value)
        else:
            base[key] = value
    return base


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_it_takes(cluster: Kubectl, case: str, version: str) -> None:
    document = workspace(version, **ACCEPTED[case])
    created = cluster(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", "-o", "json", stdin=json.dumps(document)
    ).json()
    for key in ("resource", "inference"):
        assert created.get(key) == document.get(key), "the server changed what git says"
    assert set(created) <= {"apiVersion", "kind", "metadata", "resource", "inference"}


@pytest.mark.parametrize("case", ACCEPTED)
def test_the_command_line_takes_the_same(case: str) -> None:
    problems = workspaces.read(workspace(**ACCEPTED[case])).problems
    assert not [problem.message for problem in problems if problem.severity == "error"]


@pytest.mark.parametrize("case", REFUSED)
def test_it_refuses(cluster: Kubectl, case: str) -> None:
    changes, reason = REFUSED[case]
    document = json.dumps(workspace("v1beta1", **changes))
    result = cluster(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=document, check=False
    )
    assert result.code == 1
    assert reason in result.err


@pytest.mark.parametrize("case", REFUSED)
def test_the_command_line_refuses_the_same(case: str) -> None:
    reading = workspaces.read(workspace(**REFUSED[case][0]))
    problems = rules.check(reading, catalog.load(), Fleet())
    assert [problem for problem in problems if problem.severity == "error"]


ODD: tuple[Any, ...] = (
    None, "", 0, 1, -1, 10**12, 1.5, True, "x", "X", "two words", "-a", "a-", "a.b", "a/b", "auto", "a" * 64,
    "a" * 254, [], {}, [""], ["a"], ["a", "a"], {"a": "b"}, {"a": 1}, {"A B": "c"}, "f16", "q8_0", "a:b",
    "a\nb",
)  # fmt: skip


def spoilt(random: Random, name: str) -> dict[str, Any]:
    """Make a Workspace with one of its values replaced or taken away."""
    document = workspace("v1beta1", name, **copy.deepcopy(random.choice(list(ACCEPTED.values()))))
    holder: Any = document
    key: Any = random.choice([part for part in ("resource", "inference") if part in document])
    while isinstance(holder[key], dict | list) and holder[key] and random.random() < 0.9:
        holder = holder[key]
        key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    if random.random() < 0.1:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(random.choice(ODD))
    return document


def test_what_the_command_line_takes_the_server_takes(cluster: Kubectl) -> None:
    """A spec that is fine in review and refused by the cluster would be the worst of both."""
    random = Random(2026)
    known, fleet = catalog.load(), Fleet()
    taken = []
    for number in range(500):
        document = spoilt(random, f"odd-{number}")
        problems = rules.check(workspaces.read(document), known, fleet)
        if not [problem for problem in problems if problem.severity == "error"]:
            taken.append(json.dumps(document))
    assert len(taken) > 25
    cluster("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin="\n---\n".join(taken))


def test_both_versions_are_the_same_object(cluster: Kubectl, namespace: str) -> None:
    document = workspace("v1alpha1", inference={"llamacpp": {"contextSize": "auto"}})
    cluster("create", "-n", namespace, "-f", "-", stdin=json.dumps(document))
    for version in ("v1alpha1", "v1beta1"):
        found = cluster.get("-n", namespace, f"workspaces.{version}.kaito.sh", "assistant")
        assert found["apiVersion"] == f"kaito.sh/{version}"
        assert found["inference"] == document["inference"]
        assert found["resource"] == document["resource"]


def test_every_field_may_change(cluster: Kubectl, namespace: str) -> None:
    cluster("create", "-n", namespace, "-f", "-", stdin=json.dumps(workspace()))
    changed = workspace(
        resource={
            "count": 3,
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"a": "b"}},
        },
        inference={"preset": None, "template": TEMPLATE},
    )
    cluster("replace", "-n", namespace, "-f", "-", stdin=json.dumps(changed))
    found = cluster.get("-n", namespace, "workspace", "assistant")
    assert found["resource"]["count"] == 3
    assert "preset" not in found["inference"]


def test_the_columns_of_the_original_and_the_short_names(cluster: Kubectl, namespace: str) -> None:
    cluster("create", "-n", namespace, "-f", "-", stdin=json.dumps(workspace()))
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "Fine",
            "message": "",
            "lastTransitionTime": "2026-01-31T00:00:00Z",
        }
        for kind in ("ResourceReady", "InferenceReady", "WorkspaceReady", "Ready")
    ]
    cluster(
        "patch", "-n", namespace, "wk", "assistant", "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"conditions": conditions}}),
    )  # fmt: skip
    for names in ("wk", "wks"):
        head, row = cluster("get", "-n", namespace, names).out.splitlines()
        assert head.split() == [
            "NAME",
            "INSTANCE",
            "RESOURCEREADY",
            "INFERENCEREADY",
            "WORKSPACEREADY",
            "AGE",
        ]
        assert row.split()[:5] == ["assistant", "Standard_NC12s_v3", "True", "True", "True"]
    assert "falcon-7b" in cluster("get", "-n", namespace, "wk", "-o", "wide").out


def test_the_status_is_written_apart(cluster: Kubectl, namespace: str) -> None:
    document = {**workspace(), "status": {"workerNodes": ["smuggled"]}}
    cluster("create", "-n", namespace, "--validate=ignore", "-f", "-", stdin=json.dumps(document))
    assert "workerNodes" not in cluster.get("-n", namespace, "wk", "assistant").get("status", {})


@pytest.mark.parametrize(
    ("role", "verb", "allowed"), [("view", "get", "yes"), ("view", "create", "no"), ("edit", "create", "yes")]
)
def test_the_cluster_roles_of_users_include_workspaces(
    cluster: Kubectl, namespace: str, role: str, verb: str, allowed: str
) -> None:
    """Nothing aggregates roles without a controller manager, so the role itself is bound."""
    cluster(
        "create",
        "rolebinding",
        "-n",
        namespace,
        "user",
        f"--clusterrole=berth-workspaces-{role}",
        "--user=someone",
    )
    asked = cluster(
        "auth", "can-i", verb, "workspaces.kaito.sh", "-n", namespace, "--as=someone", check=False
    )
    assert asked.out.strip() == allowed
