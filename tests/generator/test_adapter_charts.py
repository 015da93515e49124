"""LoRA adapters in the pod: from each image a file below `/adapters`, checked before it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from berth import fleet as fleets
from berth.plans import Adapter
from berth.quantities import GIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from berth.fleet import Fleet
    from generator.charts.frames import Object
    from tests.generator.conftest import Make

ADAPTERS = (
    Adapter(name="sql", image="r.example.com/sql:1", file="sql.gguf", size=2**20, pull_secrets=("one",)),
    Adapter(
        name="law", image="r.example.com/law:1", file="sub/law.gguf", size=2**30, sha256="a" * 64,
        strength=0.5, pull_secrets=("one", "two"),
    ),
)  # fmt: skip


def fleet(**document: Any) -> Fleet:
    found, problems = fleets.read(document)
    assert found is not None, problems
    return found


@pytest.fixture
def rendered(make: Make, pod_of: Callable[[Object], Object]) -> Callable[..., Object]:
    def pod(settings: Fleet | None = None, **overrides: Any) -> Object:
        made = make.objects(fleet=settings, server=make.server(adapters=ADAPTERS), **overrides)
        thing = made["Deployment/falcon-7b"]
        kubernetes_validate.validate(thing, "1.37", strict=True)
        return pod_of(thing)

    return pod


def test_each_adapter_is_copied_from_its_image_into_its_own_folder(rendered: Callable[..., Object]) -> None:
    pod = rendered()
    assert [one["name"] for one in pod["initContainers"]] == ["weights", "tools", "adapter-0", "adapter-1"]
    assert pod["initContainers"][3]["image"] == "r.example.com/law:1"
    assert pod["initContainers"][3]["command"] == [
        "/berth/copy", "--to", "/berth-adapters/law/sub", "/sub/law.gguf",
    ]  # fmt: skip
    volume = next(one for one in pod["volumes"] if one["name"] == "adapters")
    assert volume["emptyDir"]["sizeLimit"] == "1093Mi"
    mounts = pod["containers"][0]["volumeMounts"]
    assert {"name": "adapters", "mountPath": "/adapters", "readOnly": True} in mounts


def test_the_program_that_copies_comes_once(make: Make, rendered: Callable[..., Object]) -> None:
    weights = make.weights(hf=None, revision=None, image="r.example.com/m:q8")
    names = [one["name"] for one in rendered(weights=weights)["initContainers"]]
    assert names == ["tools", "weights", "adapter-0", "adapter-1"]
    volumes = [one["name"] for one in rendered(weights=weights)["volumes"]]
    assert volumes.count("tools") == 1


def test_where_images_are_mounted_nothing_is_copied(rendered: Callable[..., Object]) -> None:
    pod = rendered(fleet(kubernetesVersion="1.35"))
    assert [one["name"] for one in pod["initContainers"]] == ["weights"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["adapter-1"]["image"] == {
        "reference": "r.example.com/law:1", "pullPolicy": "IfNotPresent",
    }  # fmt: skip
    mounts = pod["containers"][0]["volumeMounts"]
    assert {"name": "adapter-1", "mountPath": "/adapters/law", "readOnly": True} in mounts


def test_the_front_checks_what_the_engine_is_given(rendered: Callable[..., Object]) -> None:
    arguments = rendered()["containers"][0]["args"]
    told = [arguments[index + 1] for index, part in enumerate(arguments) if part == "--adapter"]
    assert told == [
        f"/adapters/sql/sql.gguf:{2**20}",
        f"/adapters/law/sub/law.gguf:{2**30}:{'a' * 64}",
    ]
    given = arguments[arguments.index("--lora-scaled") + 1]
    assert given == "/adapters/sql/sql.gguf:1,/adapters/law/sub/law.gguf:0.5"


def test_every_secret_is_used_once(make: Make, rendered: Callable[..., Object]) -> None:
    pod = rendered(weights=make.weights(pull_secrets=("two", "three")))
    assert pod["imagePullSecrets"] == [{"name": "two"}, {"name": "three"}, {"name": "one"}]


def test_a_large_adapter_gets_more_time_to_start(make: Make, pod_of: Callable[[Object], Object]) -> None:
    def times(size: int) -> tuple[int, int]:
        server = make.server(adapters=(Adapter(name="a", image="i", file="a.gguf", size=size),))
        deployment = make.objects(server=server)["Deployment/falcon-7b"]
        probe = pod_of(deployment)["containers"][0]["startupProbe"]
        return probe["failureThreshold"] * probe["periodSeconds"], deployment["spec"][
            "progressDeadlineSeconds"
        ]

    small, large = times(GIB), times(15 * GIB)
    assert large[0] > small[0]
    assert large[1] - small[1] == large[0] - small[0]


def test_workers_on_other_nodes_need_no_files(make: Make, pod_of: Callable[[Object], Object]) -> None:
    made = make.objects(
        fleet=fleet(networkPolicy="enforced"), server=make.server(adapters=ADAPTERS, gpus=4),
        gpus_per_replica=4, nodes_per_replica=2, nodes={"count": 2},
    )  # fmt: skip
    pods = {name: pod_of(thing) for name, thing in made.items() if name.startswith("StatefulSet/")}
    holders = [name for name, pod in pods.items() if any(one["name"] == "adapters" for one in pod["volumes"])]
    assert holders == ["StatefulSet/falcon-7b-0"]
