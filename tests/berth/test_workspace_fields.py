"""Unknown fields, wrong types, numbers and names are told at their field, with what to write instead."""

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


def labels(**entries: Any) -> dict[str, Any]:
    return resource(labelSelector={"matchLabels": entries})


def meta(**fields: Any) -> dict[str, Any]:
    return document(metadata={"name": "a", **fields})


LLAMACPP = "inference.llamacpp"
SELECTOR = "resource.labelSelector"

UNKNOWN: dict[str, Case] = {
    "a misspelt field gets the nearest name": (
        document(resources={}),
        "resources",
        "unknown field `resources`",
        "write `resource`",
    ),
    "the wrong case is said to be that": (
        resource(instancetype="x"),
        "resource.instancetype",
        "unknown field `instancetype`",
        "write `instanceType`: upper and lower case matter",
    ),
    "underscores are no camel case": (
        llamacpp(context_size=1),
        f"{LLAMACPP}.context_size",
        "unknown field `context_size`",
        "write `contextSize`",
    ),
    "a field of another level is sent there": (
        document(inference={"preset": {"name": "x", "quantization": "Q8_0"}}),
        "inference.preset.quantization",
        "unknown field `quantization`",
        "move it to `inference.llamacpp.quantization`",
    ),
    "a level too much is removed": (
        document(spec={}),
        "spec",
        "unknown field `spec`",
        "remove this level: a Workspace has no `spec`, its fields stand at the top",
    ),
    "what nothing comes near is removed": (
        llamacpp(pod={"frobnicate": 1}),
        f"{LLAMACPP}.pod.frobnicate",
        "unknown field `frobnicate`",
        "remove it; `pod` knows `labels`, `annotations`, `tolerations`, `priorityClassName`, "
        "`runtimeClassName`, `serviceAccountName`, `imagePullSecrets` and `queue`",
    ),
    # The field of kaito v0.1.0's config/samples that no CRD of it has.
    "the original's sample has a field that never was": (
        document(inference={"preset": {"name": "x", "volume": [{"name": "dshm"}]}}),
        "inference.preset.volume",
        "unknown field `volume`",
        "remove it: no version of the Workspace has it; shared memory is mounted where needed",
    ),
    "a misspelt annotations block": (
        meta(annotation={}),
        "metadata.annotation",
        "unknown field `annotation`",
        "write `annotations`",
    ),
}

TYPES: dict[str, Case] = {
    "digits in quotes are no number": (
        resource(count="2"),
        "resource.count",
        'expected a whole number, found the text "2"',
        "write `2` without quotes",
    ),
    "true is no number": (
        llamacpp(parallel=True),
        f"{LLAMACPP}.parallel",
        "expected a whole number, found true",
        "write a whole number such as `1`",
    ),
    "a fraction is no count": (
        resource(count=1.5),
        "resource.count",
        "expected a whole number, found 1.5",
        "write `1`",
    ),
    "nan is no number": (
        resource(count=float("nan")),
        "resource.count",
        "expected a whole number, found nan",
        "write a whole number such as `1`",
    ),
    "infinity is no number": (
        llamacpp(replicas=float("inf")),
        f"{LLAMACPP}.replicas",
        "expected a whole number, found inf",
        "write a whole number such as `1`",
    ),
    "a number is no label value": (
        labels(a=1),
        f"{SELECTOR}.matchLabels.a",
        "expected a text, found 1",
        'write it in quotes, `"1"`',
    ),
    "a version may have lost its zeros": (
        labels(version=1.1),
        f"{SELECTOR}.matchLabels.version",
        "expected a text, found 1.1",
        "write it in quotes",
    ),
    "a boolean is no annotation": (
        meta(annotations={"kaito.sh/enablelb": True}),
        "metadata.annotations[kaito.sh/enablelb]",
        "expected a text, found true",
        'write it in quotes, `"True"`',
    ),
    "null is no value": (
        resource(count=None),
        "resource.count",
        "`count` has no value (null)",
        "give it a value or leave it out",
    ),
    "null in a list is no value": (
        resource(preferredNodes=[None]),
        "resource.preferredNodes[0]",
        "an entry of `preferredNodes` has no value (null)",
        "give it a value or leave it out",
    ),
    "a text is no mapping": (
        document(resource="x"),
        "resource",
        'expected a mapping, found the text "x"',
        "write it as `key: value` lines; it knows `count`, `instanceType`, `labelSelector`, `preferredNodes` "
        "and `partition`",
    ),
    "a text is no list": (
        llamacpp(extraArgs="--temp 1"),
        f"{LLAMACPP}.extraArgs",
        'expected a list, found the text "--temp 1"',
        "write it as a list: `- ` before each entry",
    ),
    "a list is no text": (
        document(inference={"preset": {"name": ["x"]}}),
        "inference.preset.name",
        "expected a text, found a list",
        "write a text",
    ),
    "auto in another case is meant": (
        llamacpp(contextSize="Auto"),
        f"{LLAMACPP}.contextSize",
        'expected a whole number or `auto`, found the text "Auto"',
        "write `auto`",
    ),
}

RANGES: dict[str, Case] = {
    "no nodes": (
        resource(count=0),
        "resource.count",
        "`count` is 0; it has to be at least 1",
        "write a number from 1 to 1000",
    ),
    "fewer than no nodes": (
        resource(count=-1),
        "resource.count",
        "`count` is -1; it has to be at least 1",
        "write a number from 1 to 1000",
    ),
    "more nodes than there are": (
        resource(count=10**12),
        "resource.count",
        "`count` is 1000000000000; it has to be at most 1000",
        "write a number from 1 to 1000",
    ),
    "a number beyond all bounds": (
        resource(count=10**5000),
        "resource.count",
        "`count` is a number of more than 30 digits; it has to be at most 1000",
        "write a number from 1 to 1000",
    ),
    "more slots than the engine has": (
        llamacpp(parallel=257),
        f"{LLAMACPP}.parallel",
        "`parallel` is 257; it has to be at most 256",
        "write a number from 1 to 256",
    ),
    "no context": (
        llamacpp(contextSize=0),
        f"{LLAMACPP}.contextSize",
        "`contextSize` is 0; it has to be at least 1",
        "write a number from 1 to 16777216",
    ),
    "an unknown cache type gets the nearest": (
        llamacpp(cacheTypeK="q8"),
        f"{LLAMACPP}.cacheTypeK",
        '"q8" is not one of `f16`, `bf16`, `q8_0` and `q4_0`',
        "write `q8_0`",
    ),
    "an unknown access mode": (
        document(inference={"preset": {"name": "x", "accessMode": "Public"}}),
        "inference.preset.accessMode",
        '"Public" is not one of `public` and `private`',
        "write `public`",
    ),
    "a version of another day": (
        document(apiVersion="kaito.sh/v1"),
        "apiVersion",
        '"kaito.sh/v1" is not one of `kaito.sh/v1alpha1` and `kaito.sh/v1beta1`',
        "write `kaito.sh/v1beta1`",
    ),
    "too many arguments": (
        llamacpp(extraArgs=["--no-warmup"] * 65),
        f"{LLAMACPP}.extraArgs",
        "`extraArgs` has 65 entries; at most 64 are allowed",
        "shorten the list",
    ),
}

_NAME = "is no name that a Service can have (lower-case letters, digits and `-`, a letter first, no `-` last)"
_VALUE = "is no label value (at most 63 letters, digits, `-`, `_` and `.`, a letter or digit first and last)"
NAMES: dict[str, Case] = {
    "upper case and underscores": (
        meta(name="Falcon_7B"),
        "metadata.name",
        f'"Falcon_7B" {_NAME}',
        "write `falcon-7b`",
    ),
    "a dot": (meta(name="a.b"), "metadata.name", f'"a.b" {_NAME}', "write `a-b`"),
    "a digit first": (meta(name="7b"), "metadata.name", f'"7b" {_NAME}', "write `model-7b`"),
    "nothing to save": (
        meta(name="_"),
        "metadata.name",
        f'"_" {_NAME}',
        "write for example `llama-3-8b`",
    ),
    "too long": (
        meta(name="a" * 64),
        "metadata.name",
        f'"{"a" * 59}…" has 64 characters; at most 63 are allowed',
        f"write `{'a' * 63}`",
    ),
    "a line break": (meta(name="a\n"), "metadata.name", f'"a\\n" {_NAME}', "write `a`"),
    "a namespace": (
        meta(namespace="Team A"),
        "metadata.namespace",
        '"Team A" is no DNS label (lower-case letters, digits and `-`, which stands neither first nor last)',
        "write `team-a`",
    ),
    "a label value": (
        labels(a="b c"),
        f"{SELECTOR}.matchLabels.a",
        f'"b c" {_VALUE}',
        "write for example `falcon-7b`",
    ),
    "a label key": (
        resource(labelSelector={"matchLabels": {"a/b/c": "d"}}),
        f"{SELECTOR}.matchLabels[a/b/c]",
        '"a/b/c" is no label key '
        "(`name` or `prefix/name`; the name has at most 63 letters, digits, `-`, `_` and `.`)",
        "write for example `example.com/team`",
    ),
    "an instance type": (
        resource(instanceType="Standard NC6"),
        "resource.instanceType",
        '"Standard NC6" is no instance type (letters, digits, `-`, `_` and `.`)',
        "write for example `Standard_NC24ads_A100_v4`",
    ),
    "an empty preset": (
        document(inference={"preset": {"name": ""}}),
        "inference.preset.name",
        "`name` is empty",
        "give it a value or leave it out",
    ),
}

CASES = [
    pytest.param(*case, id=name) for table in (UNKNOWN, TYPES, RANGES, NAMES) for name, case in table.items()
]


@pytest.mark.parametrize(("data", "field", "reason", "fix"), CASES)
def test_told_alone_at_its_field(data: dict[str, Any], field: str, reason: str, fix: str) -> None:
    found = told(data)
    assert list(found) == [field]
    problem = found[field]
    assert (problem.reason, problem.fix, problem.severity) == (reason, fix, "error")


@pytest.mark.parametrize(("data", "field", "reason", "fix"), CASES)
def test_the_value_is_told_as_it_stands(data: dict[str, Any], field: str, reason: str, fix: str) -> None:
    problem = told(data)[field]
    value: Any = data
    for part in problem.path:
        try:
            value = value[part]
        except (KeyError, IndexError):
            value = None
    if problem.value is not None:
        assert problem.value == value or value != value


def test_thousands_of_unknown_fields_are_counted_and_not_listed() -> None:
    found = told(resource(**{f"field{index}": 1 for index in range(5000)}))
    assert len(found) == 21
    assert found["resource"].reason == "4980 more unknown fields in `resource`"


def test_a_text_of_megabytes_stays_out_of_the_words() -> None:
    huge = "x" * 5_000_000
    for data in (
        resource(instanceType=huge),
        document(inference={"preset": {"name": huge}}),
        resource(**{huge: 1}),
    ):
        (problem,) = workspaces.read(data).problems
        assert len(problem.message) < 400
