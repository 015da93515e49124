"""What is read of a review, what is refused, and what an answer looks like."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from berth.problems import Problem
from tests.webhook.asking import body, review
from webhook import reviews
from webhook.reviews import BadReview, Response

POD: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}


def changed(**request: Any) -> bytes:
    data = json.loads(body(POD))
    data["request"].update(request)
    return json.dumps(data).encode()


BAD: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"kind": "\xff"}',
    "a list": b"[]",
    "another kind": b'{"kind": "Pod", "apiVersion": "v1"}',
    "an older version": b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}',
    "no request": b'{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}',
    "no uid": changed(uid=None),
    "an endless uid": changed(uid="x" * 1000),
    "an unknown operation": changed(operation="PATCH"),
    "no kind": changed(kind={}),
    "an object that is a text": changed(object="x"),
    "a create without an object": changed(object=None),
    "an update without the old object": changed(operation="UPDATE"),
    "nested 100,000 deep": b'{"a":' * 100_000,
    "lists nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "an object nested 300 deep": changed(object={**POD, "a": json.loads("[" * 300 + "]" * 300)}),
    "7 MiB of flat brackets": b'{"a":[' + b"[]," * (7 * 2**20 // 3 - 4) + b"[]]}",
    "7 MiB of flat braces": b"[" + b"{}," * (7 * 2**20 // 3 - 4) + b"{}]",
    "7 MiB of lists nested 190 deep": (b"[" + (b"[" * 190 + b"]" * 190 + b",") * 19_200 + b"1]"),
    "7 MiB of brackets between texts": b"[" + b'"[",[],' * (2**20 - 2) + b"1]",
}


@pytest.mark.parametrize("case", BAD)
def test_it_refuses(case: str) -> None:
    with pytest.raises(BadReview) as refused:
        reviews.parse(BAD[case])
    assert refused.value.status == 400
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("case", [case for case in BAD if "MiB" in case or "100,000" in case])
def test_it_refuses_what_is_large_within_a_moment(case: str) -> None:
    began = time.process_time()
    with pytest.raises(BadReview):
        reviews.parse(BAD[case])
    assert time.process_time() - began < 0.25


def test_a_text_of_brackets_is_no_crowd() -> None:
    text = "[{" * 1_500_000
    assert reviews.parse(changed(object={**POD, "note": text})).name == "p"


def test_brackets_inside_texts_do_not_nest() -> None:
    text = '\\"' + "[{" * 5000 + "\\\\"
    assert reviews.parse(changed(object={**POD, "note": text})).name == "p"


def test_a_denial_lists_every_problem_and_its_first_line_stands_alone() -> None:
    problems = (
        Problem(("resource", "count"), 1, "one is too few", "use 2", rule="count"),
        Problem(("inference", "preset", "name"), "x", "there is no x", "use y", rule="unknown"),
        Problem(("inference",), None, "old", "use new", "warning", "old"),
    )
    answer = Response(review(POD), "denied", "count", problems).to_dict()["response"]
    status = answer["status"]
    assert (answer["allowed"], status["code"], status["reason"]) == (False, 422, "Invalid")
    assert [(cause["field"], cause["message"]) for cause in status["details"]["causes"]] == [
        ("resource.count", "one is too few; use 2"),
        ("inference.preset.name", "there is no x; use y"),
    ]
    first, *rest = status["message"].splitlines()
    assert first == "Pod p is refused: resource.count: one is too few; use 2 (and 1 more)"
    assert rest[1] == "* inference.preset.name: there is no x; use y"
    assert answer["warnings"] == ["inference: old; use new"]
    assert answer["uid"] == review(POD).uid
    assert "patch" not in answer


def test_a_warning_is_one_printable_line_of_at_most_120_characters() -> None:
    problems = tuple(
        Problem(("a",), None, f"{number}\x00\n" + "long " * 100, "", "warning") for number in range(200)
    )
    warnings = Response(review(POD), "fits", problems=problems).to_dict()["response"]["warnings"]
    assert warnings
    assert all(len(text) <= 120 and text.isprintable() for text in warnings)
    assert sum(map(len, warnings)) < 4096


def test_a_patch_comes_with_its_type() -> None:
    patch = ({"op": "add", "path": "/a", "value": 1},)
    answer = Response(review(POD), "filled", patch=patch).to_dict()["response"]
    assert answer["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(answer["patch"])) == list(patch)
