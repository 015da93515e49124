"""A rendered LeaderWorkerSet is compared with its plan as other workloads are, its leader and its workers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels
from tests.webhook import asking
from webhook import admission

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.webhook.asking import Object
    from webhook.reviews import Response

LEADER, WORKER = "leaderTemplate", "workerTemplate"


@pytest.fixture
def rendered() -> Object:
    (found,) = asking.rendered("LeaderWorkerSet").values()
    return found


def decide(now: Object, old: Object) -> Response:
    return admission.validate(asking.review(now, "UPDATE", old), asking.context())


def container(thing: Object, which: str) -> Any:
    return thing["spec"]["leaderWorkerTemplate"][which]["spec"]["containers"][0]


def more_gpus(which: str) -> Callable[[Object], None]:
    def change(thing: Object) -> None:
        container(thing, which)["resources"]["limits"][labels.GPU_RESOURCE] = "2"

    return change


def another_context(thing: Object) -> None:
    arguments = container(thing, LEADER)["args"]
    arguments[arguments.index("--ctx-size") + 1] = "1"


def too_many(thing: Object) -> None:
    thing["spec"]["replicas"] = 3


def another_copy(thing: Object) -> None:
    template = thing["spec"]["leaderWorkerTemplate"][WORKER]
    template["metadata"]["annotations"][labels.SERVER_DIGEST] = "sha256:0"


def anywhere(thing: Object) -> None:
    del thing["spec"]["leaderWorkerTemplate"][WORKER]["spec"]["affinity"]


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        pytest.param(more_gpus(LEADER), f"{LEADER}.spec.containers[0]", "2 GPUs", id="a leader's GPUs"),
        pytest.param(more_gpus(WORKER), f"{WORKER}.spec.containers[0]", "2 GPUs", id="a worker's GPUs"),
        pytest.param(another_context, f"{LEADER}.spec", "--ctx-size is 1", id="the engine's context"),
        pytest.param(too_many, "spec.replicas", "3 replicas", id="more replicas than nodes"),
        pytest.param(another_copy, f"{WORKER}.metadata", "the pods' copy", id="a worker's copy of the plan"),
        pytest.param(anywhere, f"{WORKER}.spec.affinity", "any instance type", id="a worker's nodes"),
    ],
)
def test_what_somebody_changed_is_refused(
    rendered: Object, change: Callable[[Object], None], path: str, reason: str
) -> None:
    edited = copy.deepcopy(rendered)
    change(edited)
    response = decide(edited, rendered)
    assert not response.allowed
    (problem,) = response.problems
    assert path in problem.field
    assert reason in problem.reason


def test_fewer_replicas_are_allowed(rendered: Object) -> None:
    edited = copy.deepcopy(rendered)
    edited["spec"]["replicas"] = 1
    assert decide(edited, rendered).allowed
