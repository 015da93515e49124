"""Scaling by the subresource, which carries no plan: the plan of the Workspace that was seen decides."""

from __future__ import annotations

from typing import Any

import pytest

from berth import labels
from tests.webhook.asking import context, rendered, review
from webhook import admission

SELECTOR = f"{labels.WORKSPACE}=workspace-falcon-7b"
FILE = "manifests/examples/kaito/workspace-falcon-7b/workspace-workspace-falcon-7b.yaml"
"""Its plan has nodes for one replica."""


def scale(replicas: Any, selector: Any = SELECTOR) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "workspace-falcon-7b", "namespace": "default"},
        "spec": {"replicas": replicas} if replicas is not None else {},
        "status": {"replicas": 1, "selector": selector},
    }


def _known(**metadata: str) -> dict[str, Any]:
    workspace = rendered("Workspace")[FILE]
    return {**workspace, "metadata": {**workspace["metadata"], "namespace": "default", **metadata}}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "raised beyond the plan": (scale(1), scale(2), "denied"),
    "raised from nothing": (scale(None), scale(2), "denied"),
    "started again": (scale(None), scale(1), "scaled"),
    "lowered": (scale(1), scale(None), "scaled"),
    "lowered and still beyond": (scale(9), scale(5), "scaled"),
    "somebody else's pods": (scale(1, "app=x"), scale(50, "app=x"), "ignored"),
    "a Workspace that is not known": (
        scale(1),
        scale(50, f"{labels.WORKSPACE}=other"),
        "unknown-plan",
    ),
    "no selector": (scale(1, None), scale(50, None), "ignored"),
    "the same in the other writing": (
        scale(1),
        scale(2, f"a in (b,c),{labels.WORKSPACE}==workspace-falcon-7b"),
        "denied",
    ),
    "an odd number": (scale(1), scale("many"), "scaled"),
    "a leader": (scale(1), scale(2, f"{SELECTOR},{labels.ROLE}=leader"), "denied"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_known_plan_decides(case: str) -> None:
    old, new, verdict = CASES[case]
    request = review(new, "UPDATE", old, subResource="scale")
    response = admission.validate(request, context(known=(_known(),)))
    assert response.verdict == verdict
    assert response.allowed is (verdict != "denied")


@pytest.mark.parametrize(
    "known",
    [
        pytest.param((), id="none is known"),
        pytest.param((_known(namespace="elsewhere"),), id="one of another namespace"),
        pytest.param(({"metadata": {"name": "workspace-falcon-7b"}},), id="one without a plan"),
    ],
)
def test_without_a_known_plan_everything_passes(known: tuple[dict[str, Any], ...]) -> None:
    request = review(scale(50), "UPDATE", scale(1), subResource="scale")
    response = admission.validate(request, context(known=known))
    assert (response.allowed, response.verdict) == (True, "unknown-plan")


def test_the_refusal_says_what_to_do() -> None:
    request = review(scale(3), "UPDATE", scale(1), subResource="scale")
    (error,) = admission.validate(request, context(known=(_known(),))).errors
    assert error.field == "spec.replicas"
    assert error.message == (
        "3 replicas are asked for, and the plan has nodes for 1; "
        "set `inference.llamacpp.replicas` in the Workspace and run `berth render`"
    )
