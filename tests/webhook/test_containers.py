"""What of the engine's container may be changed by hand, and what may not."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from berth import labels, plans
from tests.webhook.asking import context, deployment, pod, rendered, review
from webhook import admission

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.reviews import Response

IMAGE = "ghcr.io/berth-dev/berth/serving:0.1.0-cuda12"
DIGEST = "@sha256:" + "a" * 64


def _answer(document: Any, old: Any = None) -> Response:
    operation = "UPDATE" if old is not None else "CREATE"
    return admission.validate(review(document, operation, old), context())


def _engine(document: Any) -> dict[str, Any]:
    spec = document["spec"]
    found: dict[str, Any] = spec.get("template", {"spec": spec})["spec"]["containers"][0]
    return found


def _variable(name: str) -> Callable[[Any], object]:
    return lambda one: _engine(one).setdefault("env", []).append({"name": name, "value": "1"})


def _set(**fields: Any) -> Callable[[Any], object]:
    return lambda one: _engine(one).update(fields)


def _model(which: int, path: str) -> Callable[[Any], object]:
    """Change the front's `--model` (0) or the engine's (1)."""

    def change(one: Any) -> None:
        args = _engine(one)["args"]
        places = [index for index, word in enumerate(args) if word == "--model"]
        args[places[which] + 1] = path

    return change


def _without_the_note(one: Any) -> None:
    del one["metadata"]["annotations"][labels.CONTAINER]


REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "another command": (_set(command=["llama-server"]), "command"),
    "no command": (lambda one: _engine(one).pop("command"), "command"),
    "another image": (_set(image="ghcr.io/berth-dev/berth/other:0.1.0-cuda12"), "image"),
    "another tag": (_set(image=IMAGE.replace("0.1.0", "0.2.0")), "image"),
    "an image for other GPUs": (_set(image=IMAGE.replace("cuda12", "cuda13")), "image"),
    "no image": (lambda one: _engine(one).pop("image"), "image"),
    "a flag as a variable": (_variable("LLAMA_ARG_CTX_SIZE"), "environment"),
    "memory by a variable": (_variable("GGML_CUDA_ENABLE_UNIFIED_MEMORY"), "environment"),
    "another file for the engine": (_model(1, "/models/other.gguf"), "weights"),
    "another file for the front": (_model(0, "/models/other.gguf"), "weights"),
    "a file of a similar name": (_model(1, "/models/not-falcon-7b.Q4_K_M.gguf"), "weights"),
    "the note of it removed": (_without_the_note, "plan-removed"),
    "our label removed": (lambda one: one["metadata"]["labels"].pop(labels.WORKSPACE), "label-removed"),
    "our label removed with a change": (
        lambda one: (one["metadata"]["labels"].pop(labels.MANAGED_BY), _set(image="x")(one)),
        "image",
    ),
    "everything of ours removed": (
        lambda one: one["metadata"].update(labels={}, annotations={}),
        "plan-removed",
    ),
}
TAKEN: dict[str, Callable[[Any], object]] = {
    "a mirror": _set(image="mirror.example.com:5000/all/serving:0.1.0-cuda12"),
    "the tag pinned": _set(image=IMAGE + DIGEST),
    "a digest instead of the tag": _set(image="mirror.example.com/serving" + DIGEST),
    "weights mounted elsewhere": lambda one: (
        _model(0, "/data/falcon-7b.Q4_K_M.gguf")(one),
        _model(1, "/data/falcon-7b.Q4_K_M.gguf")(one),
    ),
    "a variable of others": _variable("HTTPS_PROXY"),
    "the engine's cache folder": _variable("LLAMA_CACHE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(case: str) -> None:
    old = deployment()
    new = copy.deepcopy(old)
    change, rule = REFUSED[case]
    change(new)
    assert rule in {problem.rule for problem in _answer(new, old).errors}


@pytest.mark.parametrize("case", TAKEN)
def test_it_passes(case: str) -> None:
    old = deployment()
    new = copy.deepcopy(old)
    TAKEN[case](new)
    assert new != old
    assert _answer(new, old).errors == []


@pytest.mark.parametrize(
    ("case", "allowed"),
    [
        ("a flag as a variable", False),
        ("another file for the engine", False),
        ("another image", True),
        ("another command", True),
    ],
)
def test_a_pod_is_compared_with_what_it_carries(case: str, allowed: bool) -> None:
    """Command and image of a pod change with berth's version, and it carries no note of them."""
    one = pod(deployment())
    REFUSED[case][0](one)
    assert _answer(one).allowed is allowed


def test_variables_from_elsewhere_are_told() -> None:
    old = deployment()
    new = copy.deepcopy(old)
    _engine(new)["envFrom"] = [{"configMapRef": {"name": "x"}}]
    response = _answer(new, old)
    assert (response.allowed, response.rule) == (True, "environment")


def test_a_new_berth_with_another_image_and_command_is_no_edit() -> None:
    """It renders both anew, with its note; the pods' copy of the plan stays as it was."""
    old = deployment()
    new = copy.deepcopy(old)
    newer = {"command": ["berth-serving"], "image": IMAGE.replace("0.1.0", "0.2.0")}
    _engine(new).update(newer)
    new["metadata"]["annotations"][labels.CONTAINER] = plans.canonical({"server": newer})
    assert _answer(new, old).errors == []


def test_what_an_older_berth_rendered_without_the_note_stays_as_it_is() -> None:
    old = deployment()
    _without_the_note(old)
    new = copy.deepcopy(old)
    new["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
    assert _answer(new, old).errors == []
    assert _answer(old).errors == []


@pytest.mark.parametrize("note", ["no", "[]", '{"server":[]}', '{"server":{"command":1,"image":{}}}'])
def test_an_odd_note_is_no_bug(note: str) -> None:
    one = deployment()
    one["metadata"]["annotations"][labels.CONTAINER] = note
    json.loads(_answer(one).to_bytes())


def test_every_rendered_workload_notes_the_engine_that_it_runs() -> None:
    for file, workload in (rendered("Deployment") | rendered("StatefulSet")).items():
        notes = workload["metadata"]["annotations"]
        if labels.SERVER not in notes:
            continue
        engine = _engine(workload)
        told = json.loads(notes[labels.CONTAINER])[engine["name"]]
        assert told == {"command": engine["command"], "image": engine["image"]}, file


def test_the_digest_that_the_front_checks_cannot_be_dropped() -> None:
    for workload in rendered("Deployment").values():
        args = _engine(workload)["args"]
        if "--sha256" in args:
            break
    else:
        pytest.fail("no example has weights with a digest")
    new = copy.deepcopy(workload)
    place = _engine(new)["args"].index("--sha256")
    del _engine(new)["args"][place : place + 2]
    assert [problem.rule for problem in _answer(new, workload).errors] == ["weights"]


def _taking_images() -> dict[str, Any]:
    return next(one for one in rendered("Deployment").values() if "--mmproj" in _engine(one)["args"])


def _projector(which: int, value: str | None) -> Callable[[Any], object]:
    """Change or take away the front's `--mmproj` (0) or the engine's (1)."""

    def change(one: Any) -> None:
        args = _engine(one)["args"]
        place = [index for index, word in enumerate(args) if word == "--mmproj"][which]
        args[place : place + 2] = [] if value is None else ["--mmproj", value]

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param(_projector(0, None), "weights", id="the front checks none"),
        pytest.param(_projector(0, "/models/mmproj.gguf:1"), "weights", id="the front checks another"),
        pytest.param(_projector(1, None), "flags", id="the engine loads none"),
        pytest.param(_projector(1, "/models/other.gguf"), "flags", id="the engine loads another"),
    ],
)
def test_the_projector_stays_the_plans(change: Callable[[Any], object], rule: str) -> None:
    old = _taking_images()
    new = copy.deepcopy(old)
    change(new)
    assert not _answer(old).problems
    assert [problem.rule for problem in _answer(new, old).errors] == [rule]


@pytest.mark.parametrize(
    ("before", "after", "allowed", "warned"),
    [
        pytest.param(1, 2, False, False, id="raised beyond the plan"),
        pytest.param(5, 5, True, True, id="something else changed while it is beyond"),
        pytest.param(5, 3, True, True, id="lowered, and still beyond"),
        pytest.param(5, 6, False, False, id="raised further"),
        pytest.param(5, 1, True, False, id="back to the plan"),
    ],
)
def test_a_workload_beyond_its_plan_can_be_mended_but_not_raised(
    before: int, after: int, allowed: bool, warned: bool
) -> None:
    old = deployment()
    old["spec"]["replicas"] = before
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = after
    new["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
    response = _answer(new, old)
    assert response.allowed is allowed
    assert any(problem.severity == "warning" for problem in response.problems) is warned
