"""What a Workspace asks for and can't have is refused, and what means nothing here is warned of."""

import json
from typing import Any

import pytest

from berth import workspaces
from berth.problems import Problem

Case = tuple[dict[str, Any], str, str, str]


def document(**parts: Any) -> dict[str, Any]:
    """A Workspace that is right, with top-level parts replaced."""
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "falcon"},
        "inference": {"preset": {"name": "falcon-7b"}},
        **parts,
    }


def llamacpp(**fields: Any) -> dict[str, Any]:
    return document(inference={"preset": {"name": "falcon-7b"}, "llamacpp": fields})


def resource(**fields: Any) -> dict[str, Any]:
    return document(resource=fields)


def told(data: Any) -> dict[str, Problem]:
    return {problem.field: problem for problem in workspaces.read(data).problems}


def expression(**entry: Any) -> dict[str, Any]:
    return resource(labelSelector={"matchExpressions": [entry]})


def weights(**fields: Any) -> dict[str, Any]:
    return llamacpp(weights=fields)


def template(spec: Any) -> dict[str, Any]:
    return document(inference={"template": {"spec": spec}})


def toleration(**fields: Any) -> dict[str, Any]:
    return llamacpp(pod={"tolerations": [fields]})


def meta(**fields: Any) -> dict[str, Any]:
    return document(metadata={"name": "a", **fields})


LLAMACPP = "inference.llamacpp"
SELECTOR = "resource.labelSelector"

RULES: dict[str, Case] = {
    "training": (
        document(tuning={"method": "lora"}),
        "tuning",
        "berth serves models and does not train them",
        "remove `tuning`; serve the trained weights with `inference.llamacpp.weights`",
    ),
    "adapters": (
        document(inference={"preset": {"name": "x"}, "adapters": [{"source": {"name": "a", "image": "b"}}]}),
        "inference.adapters[0].source.name",
        "nothing says how large the adapter `a` is, so no memory can be planned for it",
        "add its file to `inference.llamacpp.adapters`: `- {name: a, file: a.gguf, size: BYTES}`; "
        "`berth package` prints it",
    ),
    "parts of a GPU": (
        resource(partition={"mode": "mig", "profile": "1g.10gb"}),
        "resource.partition",
        "parts of a GPU (MIG) are not supported: sizes are planned for whole GPUs",
        "remove `partition`",
    ),
    "nothing to run": (
        document(inference={}),
        "inference",
        "neither `preset` nor `template` is given",
        "add `preset: {name: …}` with a model of `berth presets`",
    ),
    "two things to run": (
        document(
            inference={
                "preset": {"name": "x"},
                "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}},
            }
        ),
        "inference",
        "`preset` and `template` are both given",
        "keep one: a preset is planned by berth, a template is a pod of your own",
    ),
    "a reserved selector key": (
        resource(labelSelector={"matchLabels": {"kaito.sh/workspace": "x"}}),
        f"{SELECTOR}.matchLabels[kaito.sh/workspace]",
        "`kaito.sh/workspace` is set on nodes by the controllers, so that no Workspace selects "
        "another's nodes",
        "select nodes by a label of your own",
    ),
    "a reserved key in an expression": (
        expression(key="karpenter.kaito.sh/workspace-name", operator="Exists"),
        f"{SELECTOR}.matchExpressions[0].key",
        "`karpenter.kaito.sh/workspace-name` is set on nodes by the controllers, so that no Workspace "
        "selects another's nodes",
        "select nodes by a label of your own",
    ),
    "In without values": (
        expression(key="a", operator="In"),
        f"{SELECTOR}.matchExpressions[0].values",
        "operator `In` needs values",
        "add at least one value",
    ),
    "Exists with values": (
        expression(key="a", operator="Exists", values=["b"]),
        f"{SELECTOR}.matchExpressions[0].values",
        "operator `Exists` takes no values",
        "remove `values`, or write operator `In`",
    ),
    "an operator of node affinity": (
        expression(key="a", operator="Gt", values=["1"]),
        f"{SELECTOR}.matchExpressions[0].operator",
        '"Gt" is not one of `In`, `NotIn`, `Exists` and `DoesNotExist`',
        "write one of `In`, `NotIn`, `Exists` or `DoesNotExist`",
    ),
    "weights from nowhere": (
        weights(file="a.gguf"),
        f"{LLAMACPP}.weights",
        "weights have no source",
        "give one of `hf`, `image` or `pvc`",
    ),
    "weights from two places": (
        weights(hf="a/b", pvc="c"),
        f"{LLAMACPP}.weights",
        "weights come from `hf` and `pvc` at once",
        "keep one of them",
    ),
    "a volume without a file": (
        weights(pvc="c"),
        f"{LLAMACPP}.weights.file",
        "`file` is missing: `pvc` may hold many",
        "add the path of the `.gguf` file in it",
    ),
    "a revision of a volume": (
        weights(pvc="c", file="a.gguf", revision="main"),
        f"{LLAMACPP}.weights.revision",
        "`revision` means nothing with `pvc`",
        "remove it, or use `hf`",
    ),
    "a stamp without a sha256": (
        weights(pvc="models", file="m.gguf", stamp=True),
        f"{LLAMACPP}.weights.stamp",
        "without `sha256` nothing is hashed, so there is nothing to note",
        "add the file's `sha256`, or remove `stamp`",
    ),
    "a stamp in an image": (
        weights(image="e/w", file="m.gguf", stamp=True),
        f"{LLAMACPP}.weights.stamp",
        "`stamp` means nothing with `image`",
        "remove it, or use `pvc`",
    ),
    "a file outside": (
        weights(pvc="c", file="../a.gguf"),
        f"{LLAMACPP}.weights.file",
        '"../a.gguf" is no relative path of a `.gguf` file (no `..`, no leading `/`)',
        "write for example `model-Q4_K_M.gguf`",
    ),
    "exposed in no way": (
        llamacpp(expose={}),
        f"{LLAMACPP}.expose",
        "`expose` has 0 of `ingress` and `httpRoute`",
        "give exactly one",
    ),
    "exposed without a host": (
        llamacpp(expose={"ingress": {}}),
        f"{LLAMACPP}.expose.ingress.host",
        "`host` is missing",
        "add `host`: host name that clients use",
    ),
    "a label of ours on pods": (
        llamacpp(pod={"labels": {"kaito.sh/workspace": "x"}}),
        f"{LLAMACPP}.pod.labels[kaito.sh/workspace]",
        "`kaito.sh/workspace` is set by berth itself",
        "remove it, or use a prefix of your own",
    ),
    "a toleration of everything by mistake": (
        toleration(value="x"),
        f"{LLAMACPP}.pod.tolerations[0]",
        "a toleration without a key tolerates everything, and then needs operator `Exists`",
        "add `key`, or write operator `Exists`",
    ),
    "a toleration that compares nothing": (
        toleration(key="a", operator="Exists", value="x"),
        f"{LLAMACPP}.pod.tolerations[0].value",
        "a toleration with operator `Exists` has no value",
        "remove `value`, or write operator `Equal`",
    ),
    "a flag that the plan sets": (
        llamacpp(extraArgs=["--no-warmup", "--ctx_size=4096"]),
        f"{LLAMACPP}.extraArgs[1]",
        "`--ctx-size` is not free to set",
        "use `inference.llamacpp.contextSize`",
    ),
    "a template without a pod": (
        document(inference={"template": {}}),
        "inference.template.spec",
        "`spec` is missing",
        "add the pod's `spec` with its `containers`",
    ),
    "a pod without containers": (
        template({"containers": []}),
        "inference.template.spec.containers",
        "the pod has no containers",
        "add one with `name` and `image`",
    ),
    "a container without an image": (
        template({"containers": [{"name": "a"}]}),
        "inference.template.spec.containers[0].image",
        "`image` is missing",
        "add the container's `image`",
    ),
    "two containers of one name": (
        template({"containers": [{"name": "a", "image": "b"}] * 2}),
        "inference.template.spec.containers[1].name",
        "two containers are named `a`",
        "give each a name of its own",
    ),
    "settings of the engine without the engine": (
        document(
            inference={
                "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}},
                "llamacpp": {"parallel": 2},
            }
        ),
        f"{LLAMACPP}.parallel",
        "`parallel` means nothing with `inference.template`",
        "remove it, or use `inference.preset`",
    ),
}

CASES = [pytest.param(*case, id=name) for name, case in RULES.items()]


@pytest.mark.parametrize(("data", "field", "reason", "fix"), CASES)
def test_told_alone_at_its_field(data: dict[str, Any], field: str, reason: str, fix: str) -> None:
    found = told(data)
    assert list(found) == [field]
    problem = found[field]
    assert (problem.reason, problem.fix, problem.severity) == (reason, fix, "error")


WARNINGS: dict[str, Case] = {
    "vLLM's settings": (
        document(inference={"preset": {"name": "x"}, "config": "settings"}),
        "inference.config",
        'the ConfigMap "settings" is not read: its settings are for vLLM',
        "remove it, and set `contextSize`, `parallel` or `extraArgs` in `inference.llamacpp`",
    ),
    "a private mode without an image": (
        document(inference={"preset": {"name": "x", "accessMode": "private"}}),
        "inference.preset.accessMode",
        "`accessMode` has no effect: berth serves the preset's GGUF weights",
        "remove it; for weights of your own use `inference.llamacpp.weights`",
    ),
    "another runtime": (
        meta(annotations={"kaito.sh/runtime": "vllm"}),
        "metadata.annotations[kaito.sh/runtime]",
        "the annotation `kaito.sh/runtime` does nothing here: berth always serves with llama.cpp",
        "remove it",
    ),
    "a load balancer in lower case": (
        meta(annotations={"kaito.sh/enablelb": "true"}),
        "metadata.annotations[kaito.sh/enablelb]",
        '"true" makes no load balancer: the value has to be exactly "True"',
        'write "True", or remove the annotation',
    ),
    "a misspelt annotation of KAITO": (
        meta(annotations={"kaito.sh/enableLB": "True"}),
        "metadata.annotations[kaito.sh/enableLB]",
        "the annotation `kaito.sh/enableLB` means nothing",
        "write `kaito.sh/enablelb`",
    ),
    "a part of a larger whole": (
        meta(labels={"inferenceset.kaito.sh/created-by": "x"}),
        "metadata.labels[inferenceset.kaito.sh/created-by]",
        "the label `inferenceset.kaito.sh/created-by` does nothing here: berth has no InferenceSet",
        "remove it, and set `inference.llamacpp.replicas`",
    ),
}


@pytest.mark.parametrize(
    ("data", "field", "reason", "fix"), [pytest.param(*case, id=name) for name, case in WARNINGS.items()]
)
def test_accepted_with_a_warning_that_says_what_happens(
    data: dict[str, Any], field: str, reason: str, fix: str
) -> None:
    reading = workspaces.read(data)
    assert reading.valid
    assert [(found.field, found.reason, found.fix) for found in reading.problems] == [(field, reason, fix)]


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({"kubernetes-kaito.sh/service-type": "load-balancer"}, id="of a like-named group"),
        pytest.param({"argocd.argoproj.io/sync-wave": "1"}, id="of another tool"),
        pytest.param({"workspace.kaito.io/revision": "3"}, id="written by KAITO's controller"),
        pytest.param({"berth.dev/plan": "{}"}, id="of our own"),
        pytest.param({"example.com/text": "two\nlines"}, id="of several lines"),
    ],
)
def test_other_annotations_are_left_alone(annotations: dict[str, str]) -> None:
    assert workspaces.read(meta(annotations=annotations)).problems == ()


def test_nothing_that_json_can_not_hold_hides_in_a_template() -> None:
    data = template({"containers": [{"name": "a", "image": "b", "args": [float("nan")]}]})
    (problem,) = workspaces.read(data).problems
    assert problem.field == "inference.template.spec.containers[0].args[0]"
    deep: dict[str, Any] = {}
    inside = deep
    for _ in range(5000):
        inside["a"] = {}
        inside = inside["a"]
    assert told(template(deep))["inference.template"].rule == "too-deep"


def test_a_document_that_is_right_survives_json() -> None:
    data = llamacpp(contextSize=4096, extraArgs=["--temp", "0"])
    again = json.loads(json.dumps(data))
    assert workspaces.parse(again) == workspaces.parse(data)
