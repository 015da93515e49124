"""A pod template of the user's own: what KAITO adds is added, and nothing is overwritten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from berth import fleet as fleets
from generator.charts import shapes

if TYPE_CHECKING:
    from generator.charts.frames import Object
    from tests.generator.conftest import Make

CONTAINER = {"name": "mine", "image": "registry.example.com/mine:1"}


def deployment(make: Make, template: dict[str, Any], fleet: dict[str, Any] | None = None) -> Object:
    found, _ = fleets.read(fleet or {})
    return make.objects(make.workspace(template=template), found)["Deployment/falcon-7b"]


def test_everything_of_the_users_stays(make: Make) -> None:
    own = {
        "metadata": {"labels": {"app": "mine"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [{**CONTAINER, "resources": {"limits": {"nvidia.com/gpu": "1"}}, "args": ["$(X)"]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 5,
            "priorityClassName": "mine",
        },
    }
    fleet = {"pod": {"priorityClassName": "fleet", "runtimeClassName": "nvidia"}}
    template = deployment(make, own, fleet)["spec"]["template"]
    assert template["spec"]["containers"] == own["spec"]["containers"]  # type: ignore[index]
    assert template["spec"]["volumes"] == own["spec"]["volumes"]  # type: ignore[index]
    assert template["spec"]["terminationGracePeriodSeconds"] == 5
    assert template["spec"]["priorityClassName"] == "mine"
    assert template["spec"]["runtimeClassName"] == "nvidia"
    assert template["metadata"]["labels"] == {"app": "mine", "kaito.sh/workspace": "falcon-7b"}
    assert template["metadata"]["annotations"] == {"a": "b"}


def test_our_requirements_narrow_every_alternative_of_the_users_affinity(make: Make) -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    disk = {"key": "disk", "operator": "Exists"}
    fields = [{"key": "metadata.name", "operator": "In", "values": ["n"]}]
    pods = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}
    weighted = [{"weight": 1, "preference": {"matchExpressions": [disk]}}]
    affinity = {
        "podAntiAffinity": pods,
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [zone]},
                    {"matchExpressions": [disk], "matchFields": fields},
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": weighted,
        },
    }
    merged = deployment(make, {"spec": {"containers": [CONTAINER], "affinity": affinity}})["spec"]["template"]
    found = merged["spec"]["affinity"]
    ours = [
        {"key": "apps", "operator": "In", "values": ["falcon"]},
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC12s_v3"]},
    ]
    assert found["podAntiAffinity"] == pods
    node = found["nodeAffinity"]
    assert node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, *ours]},
        {"matchExpressions": [disk, *ours], "matchFields": fields},
    ]
    assert node["preferredDuringSchedulingIgnoredDuringExecution"] == weighted


@pytest.mark.parametrize(
    "own",
    [
        [],
        [{"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
        [{"operator": "Exists"}],
    ],
    ids=["no toleration", "one of ours already", "one for everything"],
)
def test_tolerations_are_added_once_and_behind_the_users(make: Make, own: list[Object]) -> None:
    spec = {"containers": [CONTAINER], "tolerations": own} if own else {"containers": [CONTAINER]}
    found = deployment(make, {"spec": spec})["spec"]["template"]["spec"]["tolerations"]
    assert found[: len(own)] == own
    keys = [one.get("key") for one in found]
    assert keys.count("sku") == keys.count("nvidia.com/gpu") == keys.count("gpu") == 1


def test_a_template_gets_no_object_that_only_fits_our_pods(make: Make) -> None:
    made = make.objects(make.workspace(template={"spec": {"containers": [CONTAINER]}}))
    kinds = sorted(thing["kind"] for thing in made.values())
    assert kinds == ["ConfigMap", "Deployment", "PodDisruptionBudget", "Workspace"]


def test_a_service_comes_when_it_is_asked_for_and_finds_the_users_port(make: Make) -> None:
    workspace = make.workspace(
        template={"spec": {"containers": [{**CONTAINER, "ports": [{"containerPort": 8000}]}]}},
        metadata={"name": "falcon-7b", "annotations": {"kaito.sh/enablelb": "True"}},
    )
    [port] = make.objects(workspace)["Service/falcon-7b"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8000)


def test_nulls_are_absent(make: Make) -> None:
    own = {"metadata": {"creationTimestamp": None}, "spec": {"containers": [CONTAINER], "nodeSelector": None}}
    template = deployment(make, own)["spec"]["template"]
    assert "creationTimestamp" not in template["metadata"]
    assert "nodeSelector" not in template["spec"]


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"spec": {"tolerations": "all"}}, r"spec\.tolerations is 'all', and must be a list"),
        ({"spec": {"affinity": []}}, r"spec\.affinity is 'list', and must be a mapping"),
        ({"spec": {"affinity": {"nodeAffinity": 1}}}, r"spec\.affinity\.nodeAffinity is 'int'"),
        ({"metadata": {"labels": ["a"]}, "spec": {}}, r"metadata\.labels is 'list', and must be a mapping"),
    ],
    ids=["tolerations", "affinity", "node affinity", "labels"],
)
def test_what_cannot_be_added_to_is_told(make: Make, own: dict[str, Any], reason: str) -> None:
    own["spec"]["containers"] = [CONTAINER]
    with pytest.raises(shapes.TemplateError, match=reason):
        deployment(make, own)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["affinity", "tolerations", "volumes", "imagePullSecrets", "x"]), _JSON)
)
def test_any_template_is_rendered_or_told(make: Make, spec: dict[str, Any]) -> None:
    own = {"spec": {**spec, "containers": [CONTAINER]}}
    try:
        first = deployment(make, own)
    except shapes.TemplateError:
        return
    assert first == deployment(make, own)
    assert first["spec"]["template"]["spec"]["containers"] == [CONTAINER]
