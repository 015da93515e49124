"""The decisions: what fits passes unchanged, what does not is refused with the words of `berth check`."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from berth import labels, rules, workspaces
from berth.fleet import Budget, Fleet
from tests.webhook.asking import context, deployment, fleet_of, pod, rendered, review, workspace
from webhook import admission, reviews

Object = dict[str, Any]
RENDERED = rendered()
SPECS: dict[str, tuple[Object, str]] = {
    "unknown preset": ({"inference": {"preset": {"name": "falcon-7c"}}}, "inference.preset.name"),
    "too small": (
        {
            "resource": {"instanceType": "Standard_NC6s_v3", "count": 1},
            "inference": {"preset": {"name": "falcon-40b"}},
        },
        "resource.instanceType",
    ),
    "unknown field": ({"resource": {"instanceTyp": "Standard_NC6s_v3"}}, "resource.instanceTyp"),
    "wrong type": ({"resource": {"count": "two"}}, "resource.count"),
    "owned flag": (
        {"inference": {"preset": {"name": "falcon-7b"}, "llamacpp": {"extraArgs": ["--ctx-size", "9"]}}},
        "inference.llamacpp.extraArgs[0]",
    ),
}


def answer(document: Object, **given: Any) -> reviews.Response:
    return admission.validate(review(document, **given), context())


@pytest.mark.parametrize("file", RENDERED)
def test_what_is_rendered_passes_and_nothing_is_filled(file: str) -> None:
    document, within = RENDERED[file], context(fleet_of(file))
    for one in (document, *([pod(document)] if "template" in document.get("spec", {}) else [])):
        assert not admission.validate(review(one), within).errors
        assert admission.mutate(review(one), within).patch == ()


@pytest.mark.parametrize("case", SPECS)
def test_the_words_are_those_of_the_command_line(case: str) -> None:
    parts, field = SPECS[case]
    document = workspace(**parts)
    told = rules.check(workspaces.read(document), context().catalog, Fleet())
    errors = answer(document).errors
    assert [(one.field, one.message) for one in errors] == [
        (one.field, one.message) for one in told if one.severity == "error"
    ]
    assert field in [one.field for one in errors]


def test_without_a_plan_it_passes_with_a_warning() -> None:
    response = answer(workspace())
    assert (response.allowed, response.verdict) == (True, "unrendered")
    assert "metadata.annotations[berth.dev/plan]: no plan is rendered, so nothing runs; run `berth render` and commit" in response.warnings  # fmt: skip  # noqa: E501
    assert int(response.audit["needed-bytes"]) < int(response.audit["available-bytes"])


def planned(**parts: Any) -> Object:
    document = copy.deepcopy(next(one for one in RENDERED.values() if one["kind"] == "Workspace"))
    for key, value in parts.items():
        document[key] = {**document[key], **value}
    return document


def test_a_plan_of_another_spec_is_refused() -> None:
    response = answer(planned(inference={"llamacpp": {"parallel": 1}}))
    assert [one.rule for one in response.errors] == ["stale-plan"]
    assert "berth render" in response.errors[0].message


def test_a_plan_that_somebody_edited_is_refused() -> None:
    document = planned()
    plan = json.loads(document["metadata"]["annotations"][labels.PLAN])
    plan["nodes"]["count"] = 100
    document["metadata"]["annotations"][labels.PLAN] = json.dumps(plan)
    assert [one.rule for one in answer(document).errors] == ["edited-plan"]


def test_a_plan_of_another_catalogue_passes() -> None:
    document = planned()
    plan = json.loads(document["metadata"]["annotations"][labels.PLAN])
    plan["catalogDigest"], plan["nodes"]["disk"] = "sha256:0", 1
    document["metadata"]["annotations"][labels.PLAN] = json.dumps(plan)
    assert answer(document).allowed


def test_a_text_that_is_no_plan_is_refused() -> None:
    document = planned()
    document["metadata"]["annotations"][labels.PLAN] = "{}"
    assert [one.rule for one in answer(document).errors] == ["bad-plan"]


def test_an_update_that_leaves_the_spec_alone_passes_whatever_the_rules_say_today() -> None:
    old = workspace(**SPECS["unknown preset"][0])
    new = copy.deepcopy(old)
    new["metadata"] |= {"labels": {"x": "y"}, "finalizers": []}
    new["status"] = {"conditions": []}
    response = answer(new, operation="UPDATE", old=old)
    assert (response.allowed, response.verdict) == (True, "unchanged")


def test_deletion_always_passes() -> None:
    old = workspace(**SPECS["unknown preset"][0])
    gone = copy.deepcopy(old)
    gone["metadata"] |= {"deletionTimestamp": "2026-11-25T00:00:00Z"}
    gone["resource"]["count"] = 7
    assert answer(gone, operation="UPDATE", old=old).allowed
    assert admission.validate(review(old, operation="DELETE", object=None, old=old), context()).allowed


def test_a_budget_counts_what_the_namespace_holds() -> None:
    document = planned()
    gpus = json.loads(document["metadata"]["annotations"][labels.PLAN])["nodes"]
    size = gpus["count"] * gpus["gpusPerNode"]
    other = copy.deepcopy(document)
    other["metadata"] |= {"name": "other", "namespace": "default"}
    far = copy.deepcopy(other)
    far["metadata"]["namespace"] = "far"
    same = copy.deepcopy(document)
    same["metadata"]["namespace"] = "default"
    tight = Fleet(budgets={"default": Budget(gpus=size)})
    assert size <= 4
    for known, allowed in (((), True), ((far,), True), ((same,), True), ((other,), False)):
        response = admission.validate(review(document), context(tight, known))
        assert ("budget" not in [one.rule for one in response.errors]) is allowed


def set_flag(workload: Object, flag: str, value: str | None) -> None:
    args = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    if flag in args:
        place = args.index(flag)
        args[place : place + 2] = [] if value is None else [flag, value]
    else:
        args += [flag, value] if value is not None else [flag]


def spoil(workload: Object, what: str) -> None:
    container = workload["spec"]["template"]["spec"]["containers"][0]
    match what:
        case "other GPUs":
            for part in ("requests", "limits"):
                container["resources"][part]["nvidia.com/gpu"] = "2"
        case "no GPUs":
            del container["resources"]["limits"]["nvidia.com/gpu"]
        case "more context":
            set_flag(workload, "--ctx-size", "999999")
        case "no context":
            set_flag(workload, "--ctx-size", None)
        case "more slots":
            set_flag(workload, "--parallel", "64")
        case "another cache type":
            set_flag(workload, "--cache-type-k", "f32")
        case "a second value that wins":
            container["args"] += ["--ctx-size", "999999"]
        case "a flag with an equals sign":
            container["args"] += ["--ctx-size=999999"]
        case "a flag of the plan's that it does not have":
            container["args"] += ["--lora", "x"]
        case "no command line":
            container["args"] = []
        case "another instance type":
            terms = _terms(workload)
            next(one for one in terms[0]["matchExpressions"] if one["key"] == labels.INSTANCE_TYPE)[
                "values"
            ] = ["big"]
        case "any instance type":
            workload["spec"]["template"]["spec"]["affinity"] = {}
        case "one more term":
            _terms(workload).append({"matchExpressions": [{"key": "x", "operator": "Exists"}]})
        case "too many replicas":
            workload["spec"]["replicas"] = 50
        case "another copy":
            notes = workload["metadata"]["annotations"]
            notes[labels.SERVER] = notes[labels.SERVER].replace('"parallel":4', '"parallel":1')
        case "another digest of the pods":
            workload["spec"]["template"]["metadata"]["annotations"][labels.SERVER_DIGEST] = "sha256:0"
        case "no copy":
            del workload["metadata"]["annotations"][labels.SERVER]
        case "another container":
            container["name"] = "x"
        case _:
            raise AssertionError(what)


def _terms(workload: Object) -> list[Any]:
    affinity = workload["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    found: list[Any] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return found


IN_PODS = (
    "other GPUs", "no GPUs", "more context", "no context", "more slots", "another cache type",
    "a second value that wins", "a flag with an equals sign", "a flag of the plan's that it does not have",
    "no command line", "another container", "another digest of the pods",
)  # fmt: skip
SPOILT = (*IN_PODS, "another instance type", "any instance type", "one more term", "too many replicas",
          "another copy", "no copy")  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_a_workload_that_somebody_changed_is_refused(what: str) -> None:
    old = deployment()
    new = copy.deepcopy(old)
    spoil(new, what)
    assert not answer(new).allowed
    response = answer(new, operation="UPDATE", old=old)
    assert not response.allowed
    assert all(one.fix for one in response.errors)


@pytest.mark.parametrize("what", IN_PODS)
def test_a_pod_that_somebody_changed_is_refused(what: str) -> None:
    workload = deployment()
    spoil(workload, what)
    assert not answer(pod(workload)).allowed


def test_scaling_down_is_allowed() -> None:
    workload = deployment()
    workload["spec"]["replicas"] = 0
    assert answer(workload).allowed


def test_other_edits_are_nobody_s_business() -> None:
    workload = deployment()
    workload["spec"]["template"]["spec"]["containers"][0]["image"] = (
        "mirror.example.com/all/serving:0.1.0-cuda12"
    )
    workload["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
    assert answer(workload).allowed


def test_what_is_wrong_already_may_be_touched_elsewhere() -> None:
    old = deployment()
    spoil(old, "more context")
    new = copy.deepcopy(old)
    new["metadata"]["labels"]["x"] = "y"
    new["status"] = {"replicas": 1}
    assert answer(new, operation="UPDATE", old=old).allowed


def test_taking_our_label_away_does_not_hide_a_change() -> None:
    old = deployment()
    new = copy.deepcopy(old)
    spoil(new, "more context")
    del new["metadata"]["labels"][labels.MANAGED_BY]
    assert not answer(new, operation="UPDATE", old=old).allowed


def test_a_workload_that_only_claims_to_be_ours_is_told_so() -> None:
    workload = deployment()
    workload["metadata"]["annotations"] = {}
    workload["spec"]["template"]["metadata"]["annotations"] = {}
    response = answer(workload)
    assert (response.allowed, response.verdict) == (True, "claims-to-be-ours")
    assert response.warnings


def test_workloads_of_others_are_ignored() -> None:
    workload = deployment()
    spoil(workload, "more context")
    workload["metadata"]["labels"] = {}
    assert answer(workload).verdict == "ignored"


def applied(document: Any, patch: Any) -> Any:
    result = copy.deepcopy(document)
    for one in patch:
        *parents, last = one["path"].split("/")[1:]
        holder = result
        for part in parents:
            holder = holder[int(part) if isinstance(holder, list) else part]
        assert last not in holder
        holder[last] = one["value"]
    return result


def test_filling_twice_fills_once_and_changes_no_digest() -> None:
    document = workspace(inference={"llamacpp": {"parallel": 2}})
    patch = admission.mutate(review(document), context()).patch
    filled = applied(document, patch)
    assert filled["inference"]["llamacpp"] == {"parallel": 2, "cacheTypeK": "f16", "cacheTypeV": "f16"}
    assert admission.mutate(review(filled), context()).patch == ()
    assert workspaces.parse(filled).spec_digest == workspaces.parse(document).spec_digest


def test_a_pod_of_ours_that_lost_its_security_gets_it_back() -> None:
    one = pod(deployment())
    del one["spec"]["securityContext"]
    del one["spec"]["containers"][0]["securityContext"]["capabilities"]
    patch = admission.mutate(review(one), context()).patch
    filled = applied(one, patch)
    assert filled["spec"]["securityContext"]["runAsNonRoot"] is True
    assert filled["spec"]["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert admission.mutate(review(filled), context()).patch == ()
