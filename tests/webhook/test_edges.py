"""What hand-made annotations, injected containers and old objects lead to."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from tests.webhook.asking import body, context, deployment, pod, review
from webhook import admission, reviews

if TYPE_CHECKING:
    from collections.abc import Callable

INVALID: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "old", "labels": {"a": "1"}},
    "resource": {"instanceType": "Standard_NC6s_v3"},
    "inference": {"preset": {"name": "falcon-40b"}},
}


def _note(key: str, text: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["metadata"]["annotations"][key] = text

    return change


def _pod_spec(document: Any) -> Any:
    return document["spec"]["template"]["spec"]


GPU = {"limits": {labels.GPU_RESOURCE: "1"}}
REFUSED: dict[str, tuple[Callable[[Any], None], str]] = {
    "half a surrogate pair in the plan's copy": (_note(labels.SERVER, '{"a":"\\ud800"}'), "edited-copy"),
    "a second container with a GPU": (
        lambda one: _pod_spec(one)["containers"].append({"name": "x", "image": "i", "resources": GPU}),
        "gpus",
    ),
    "an init container with a GPU": (
        lambda one: _pod_spec(one)["initContainers"][0].update(resources=GPU),
        "gpus",
    ),
    "a node selector for another instance type": (
        lambda one: _pod_spec(one).update(nodeSelector={labels.INSTANCE_TYPE: "Standard_NC6s_v3"}),
        "instance-type",
    ),
}
ODD_NODES = ('{"instanceTypes":[1]}', '{"instanceTypes":[{}]}', '{"instanceTypes":["\\ud800"]}', "[]", "no")


def _answer(document: Any, old: Any = None) -> reviews.Response:
    response = admission.validate(review(document, "UPDATE" if old is not None else "CREATE", old), context())
    json.loads(response.to_bytes())
    return response


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(case: str) -> None:
    one = deployment()
    assert _answer(one).allowed
    change, rule = REFUSED[case]
    change(one)
    assert rule in {problem.rule for problem in _answer(one).errors}


@pytest.mark.parametrize("text", ODD_NODES)
def test_an_odd_copy_of_the_nodes_is_no_bug(text: str) -> None:
    one = deployment()
    one["metadata"]["annotations"][labels.NODES] = text
    assert _answer(one).verdict


def test_the_copy_of_the_nodes_cannot_be_removed() -> None:
    old = deployment()
    new = copy.deepcopy(old)
    del new["metadata"]["annotations"][labels.NODES]
    new["spec"]["replicas"] = 50
    assert [problem.rule for problem in _answer(new, old).errors] == ["plan-removed"]


def test_very_many_unknown_fields_are_problems_and_no_bug() -> None:
    document = {**INVALID, **{f"field{number}": 1 for number in range(300)}}
    assert not _answer(document).allowed


def test_metadata_of_an_old_workspace_may_change_whatever_is_absent_from_its_spec() -> None:
    new = copy.deepcopy(INVALID)
    new["metadata"] |= {"labels": {"a": "2"}, "finalizers": ["berth.dev/nodes"]}
    assert admission.mutate(review(new, "UPDATE", INVALID), context()).patch == ()
    assert _answer(new, INVALID).verdict == "unchanged"


@pytest.mark.parametrize(
    ("resource", "available_gib"),
    [
        pytest.param({"instanceType": "Standard_NC6s_v3"}, 15, id="on a named instance type"),
        pytest.param({}, 140, id="where nothing is large enough"),
    ],
)
def test_the_audit_of_a_denial_tells_needed_and_available_bytes(
    resource: dict[str, Any], available_gib: int
) -> None:
    model = {"preset": {"name": "falcon-40b"}, "llamacpp": {"contextSize": 131072, "parallel": 128}}
    response = _answer({**INVALID, "resource": resource, "inference": model})
    told = response.to_dict()["response"]["auditAnnotations"]
    assert (told["verdict"], told["rule"]) == ("denied", "fit")
    needed, available = int(told["needed-bytes"]), int(told["available-bytes"])
    assert needed > available
    assert available_gib - 1 < available / 2**30 < available_gib + 1
    (error,) = [problem for problem in response.errors if problem.rule == "fit"]
    assert f"{(needed - available) / 2**30:.1f} GiB" in error.message or "largest" in error.message


def test_a_null_that_somebody_wrote_is_left_alone() -> None:
    new = copy.deepcopy(INVALID)
    new["inference"]["llamacpp"] = None
    assert admission.mutate(review(new), context()).patch == ()


def test_a_container_that_somebody_injected_is_left_alone() -> None:
    one = pod(deployment())
    one["spec"]["containers"].append({"name": "x", "securityContext": {"privileged": True}})
    assert admission.mutate(review(one), context()).patch == ()


def test_details_name_the_objects_own_group() -> None:
    one = pod(deployment())
    one["spec"]["containers"][0]["resources"]["limits"][labels.GPU_RESOURCE] = "2"
    request = reviews.parse(body(one))
    status = admission.validate(request, context()).to_dict()["response"]["status"]
    assert status["details"]["group"] == ""
