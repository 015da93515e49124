"""A projector in the pod: it comes with the weights, from the same source, and is checked as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from berth import fleet as fleets
from berth.plans import Projector
from berth.quantities import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from generator.charts.frames import Object
    from tests.generator.conftest import Make

DIGEST, OTHER = "a" * 64, "b" * 64
PROJECTOR = Projector(
    file="mmproj.gguf", size=GIB, sha256=DIGEST, pinned=True, image_tokens=258, batch_tokens=1024
)


@pytest.fixture
def rendered(make: Make, pod_of: Callable[[Object], Object]) -> Callable[..., Object]:
    def pod(projector: Projector | None = PROJECTOR, settings: Any = None, **weights: Any) -> Object:
        made = make.objects(
            fleet=settings, server=make.server(mmproj=projector), weights=make.weights(**weights)
        )
        thing = made["Deployment/falcon-7b"]
        kubernetes_validate.validate(thing, "1.37", strict=True)
        return pod_of(thing)

    return pod


def init(pod: Object, name: str) -> list[str]:
    found: list[str] = next(one["command"] for one in pod["initContainers"] if one["name"] == name)
    return found


def after(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def test_it_is_downloaded_with_the_weights(rendered: Callable[..., Object]) -> None:
    pod = rendered()
    command = init(pod, "weights")
    assert after(command, "--mmproj") == "mmproj.gguf"
    assert after(command, "--mmproj-sha256") == DIGEST
    assert after(command, "--size") == str(8 * GIB)
    text = rendered(None)
    assert "--mmproj" not in init(text, "weights")
    sizes = [one["volumes"][0]["emptyDir"]["sizeLimit"] for one in (text, pod)]
    assert sizes == ["9Gi", "10Gi"]


def test_without_a_digest_none_is_named(rendered: Callable[..., Object]) -> None:
    pod = rendered(PROJECTOR.model_copy(update={"sha256": None}))
    assert "--mmproj-sha256" not in init(pod, "weights")
    assert after(pod["containers"][0]["args"], "--mmproj") == f"/models/mmproj.gguf:{GIB}"


def test_the_front_checks_what_the_engine_is_given(rendered: Callable[..., Object]) -> None:
    arguments = rendered()["containers"][0]["args"]
    split = arguments.index("--")
    assert after(arguments[:split], "--mmproj") == f"/models/mmproj.gguf:{GIB}:{DIGEST}"
    assert after(arguments[split:], "--mmproj") == "/models/mmproj.gguf"


@pytest.mark.parametrize(
    ("file", "copies"),
    [
        pytest.param(
            "mmproj.gguf",
            {"weights": ["/berth/copy", "--to", "/berth-weights", "/m.gguf", "/mmproj.gguf"]},
            id="beside the weights, by the same container",
        ),
        pytest.param(
            "sub/mmproj.gguf",
            {
                "weights": ["/berth/copy", "--to", "/berth-weights", "/m.gguf"],
                "projector": ["/berth/copy", "--to", "/berth-weights/sub", "/sub/mmproj.gguf"],
            },
            id="in another folder, by one of its own",
        ),
    ],
)
def test_it_is_copied_from_the_image_of_the_weights(
    rendered: Callable[..., Object], file: str, copies: dict[str, list[str]]
) -> None:
    projector = PROJECTOR.model_copy(update={"file": file})
    pod = rendered(projector, hf=None, revision=None, image="r.example.com/m:1", file="m.gguf")
    found = {one["name"]: one["command"] for one in pod["initContainers"]}
    assert found.pop("tools")
    assert found == copies
    assert {one["image"] for one in pod["initContainers"][1:]} == {"r.example.com/m:1"}


def test_where_images_are_mounted_nothing_is_done(rendered: Callable[..., Object]) -> None:
    settings, problems = fleets.read({"kubernetesVersion": "1.35"})
    assert settings is not None, problems
    pod = rendered(settings=settings, hf=None, revision=None, image="r.example.com/m:1", file="m.gguf")
    assert "initContainers" not in pod


def test_on_a_volume_it_is_stamped_with_the_weights(rendered: Callable[..., Object]) -> None:
    pod = rendered(hf=None, revision=None, pvc="models", file="m.gguf", sha256=OTHER, stamp=True)
    command = init(pod, "weights")
    assert after(command, "--mmproj") == "/models/mmproj.gguf"
    assert after(command, "--mmproj-sha256") == DIGEST


def test_it_gets_its_time_to_start(make: Make, pod_of: Callable[[Object], Object]) -> None:
    def times(size: int) -> tuple[int, int]:
        server = make.server(mmproj=PROJECTOR.model_copy(update={"size": size}))
        deployment = make.objects(server=server)["Deployment/falcon-7b"]
        probe = pod_of(deployment)["containers"][0]["startupProbe"]
        seconds = probe["failureThreshold"] * probe["periodSeconds"]
        return seconds, deployment["spec"]["progressDeadlineSeconds"]

    small, large = times(GIB), times(15 * GIB)
    assert large[0] > small[0]
    assert large[1] - small[1] == large[0] - small[0]
