"""A Workspace is read as it stands, and everything that is wrong with it is told at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berth import workspaces
from berth.errors import InvalidWorkspace
from berth.problems import Problem
from berth.spec import metadata, schema


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


# From Azure/kaito v0.1.0 (MIT), README.md and examples/kaito_workspace_llama2_13b-chat.yaml.
QUICK_START = {
    "apiVersion": "kaito.sh/v1alpha1",
    "kind": "Workspace",
    "metadata": {"name": "workspace-falcon-7b"},
    "resource": {
        "instanceType": "Standard_NC12s_v3",
        "labelSelector": {"matchLabels": {"apps": "falcon-7b"}},
    },
    "inference": {"preset": {"name": "falcon-7b"}},
}
PRIVATE = {
    "apiVersion": "kaito.sh/v1alpha1",
    "kind": "Workspace",
    "metadata": {"name": "workspace-llama-2-13b-chat"},
    "resource": {
        "instanceType": "Standard_NC12s_v3",
        "labelSelector": {"matchLabels": {"apps": "llama-2-13b-chat"}},
    },
    "inference": {
        "preset": {
            "name": "llama-2-13b-chat",
            "accessMode": "private",
            "presetOptions": {"image": "<YOUR IMAGE URL>"},
        }
    },
}


def test_the_originals_quick_start_is_read_without_a_word() -> None:
    reading = workspaces.read(QUICK_START)
    assert reading.problems == ()
    assert reading.workspace is not None
    assert reading.workspace.name == "workspace-falcon-7b"
    assert reading.workspace.resource == workspaces.Resource(
        instance_type="Standard_NC12s_v3", match_labels={"apps": "falcon-7b"}
    )
    assert reading.workspace.inference.preset == workspaces.Preset("falcon-7b")


def test_a_placeholder_for_an_image_only_warns() -> None:
    reading = workspaces.read(PRIVATE)
    assert reading.valid
    (warning,) = reading.problems
    assert warning.field == "inference.preset.presetOptions.image"
    assert warning.severity == "warning"
    assert "PyTorch" in warning.reason
    assert "inference.llamacpp.weights" in warning.fix


def test_absent_fields_stay_absent() -> None:
    workspace = workspaces.parse(document())
    assert workspace.namespace is None
    assert workspace.resource == workspaces.Resource()
    assert workspace.inference.llamacpp == workspaces.LlamaCpp()


def test_every_field_of_ours_arrives() -> None:
    workspace = workspaces.parse(
        llamacpp(
            quantization="Q4_K_M",
            contextSize="auto",
            parallel=8,
            cacheTypeK="q8_0",
            cacheTypeV="q8_0",
            replicas=2,
            weights={
                "hf": "org/model-GGUF",
                "revision": "main",
                "tokenSecret": "hub",
                "file": "a/b-00001-of-00002.gguf",
            },
            extraArgs=["--temp", "0.2", "--no-warmup"],
            pod={
                "labels": {"team": "chat"},
                "annotations": {"example.com/note": "any text"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "priorityClassName": "high",
                "runtimeClassName": "nvidia",
                "serviceAccountName": "models",
                "imagePullSecrets": ["registry"],
                "queue": "gpus",
            },
            expose={
                "ingress": {"host": "m.example.com", "ingressClassName": "nginx", "tlsSecretName": "tls"}
            },
        )
    )
    assert workspace.inference.llamacpp == workspaces.LlamaCpp(
        quantization="Q4_K_M",
        context_size="auto",
        parallel=8,
        cache_type_k="q8_0",
        cache_type_v="q8_0",
        replicas=2,
        weights=workspaces.WeightsSource(
            hf="org/model-GGUF", revision="main", token_secret="hub", file="a/b-00001-of-00002.gguf"
        ),
        extra_args=("--temp", "0.2", "--no-warmup"),
        pod=workspaces.PodSettings(
            labels={"team": "chat"},
            annotations={"example.com/note": "any text"},
            tolerations=({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},),
            priority_class_name="high",
            runtime_class_name="nvidia",
            service_account_name="models",
            image_pull_secrets=("registry",),
            queue="gpus",
        ),
        expose=workspaces.Expose(
            ingress=workspaces.Ingress("m.example.com", ingress_class_name="nginx", tls_secret_name="tls")
        ),
    )


def test_a_route_of_the_gateway_api_arrives() -> None:
    route = {
        "parentRefs": [{"name": "public", "namespace": "infra"}],
        "hostnames": ["m.example.com"],
        "path": "/m",
    }
    expose = workspaces.parse(llamacpp(expose={"httpRoute": route})).inference.llamacpp.expose
    assert expose == workspaces.Expose(
        http_route=workspaces.HttpRoute((workspaces.ParentRef("public", "infra"),), ("m.example.com",), "/m")
    )


def test_match_expressions_arrive_as_they_are() -> None:
    selector = {"matchExpressions": [{"key": "pool", "operator": "NotIn", "values": ["a", "b"]}]}
    workspace = workspaces.parse(resource(labelSelector=selector))
    assert workspace.resource.match_expressions == (workspaces.LabelRequirement("pool", "NotIn", ("a", "b")),)


def test_kaitos_secrets_are_used() -> None:
    options = {"imagePullSecrets": ["a", "b"], "modelAccessSecret": "hub"}
    preset = {"name": "x", "presetOptions": options}
    read = workspaces.parse(document(inference={"preset": preset})).inference.preset
    assert read == workspaces.Preset("x", pull_secrets=("a", "b"), model_access_secret="hub")


def test_a_template_is_kept_as_it_is() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"x": 1.5}}}]}}
    workspace = workspaces.parse(document(inference={"template": template}))
    assert workspace.inference.template == template
    assert workspace.inference.preset is None


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_both_versions_read_alike(version: str) -> None:
    data = document(apiVersion=f"kaito.sh/{version}")
    data["inference"]["preset"]["presetOptions"] = {"modelAccessSecret": "hub"}
    assert workspaces.read(data).problems == ()


def test_what_the_api_server_adds_is_no_problem() -> None:
    meta = {
        "name": "falcon",
        "uid": "u",
        "resourceVersion": "1",
        "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [],
        "finalizers": ["berth.dev/nodes"],
    }
    assert workspaces.read(document(metadata=meta, status={"conditions": []})).problems == ()


def test_a_broken_field_is_absent_and_the_others_stay_usable() -> None:
    reading = workspaces.read(resource(count="two", instanceType="Standard_NC6s_v3"))
    assert not reading.valid
    assert reading.broken == {("resource", "count")}
    assert reading.workspace is not None
    assert reading.workspace.resource == workspaces.Resource(instance_type="Standard_NC6s_v3")


def test_all_problems_are_told_at_once() -> None:
    data = document(
        apiVersion="kaito.sh/v1",
        metadata={"name": "Falcon_7B", "anotations": {}},
        resource={"instancetype": "x", "count": 0, "labelSelector": {"matchLabels": {"a": 1}}},
        inference={
            "preset": {"name": "x", "volume": []},
            "llamacpp": {"parallel": True, "extraArgs": ["-c", "5"]},
        },
    )
    assert set(told(data)) == {
        "apiVersion",
        "metadata.name",
        "metadata.anotations",
        "resource.instancetype",
        "resource.count",
        "resource.labelSelector.matchLabels.a",
        "inference.preset.volume",
        "inference.llamacpp.parallel",
        "inference.llamacpp.extraArgs[0]",
    }


def test_parse_raises_with_every_error_and_without_the_warnings() -> None:
    data = {**PRIVATE, "resource": {"count": 0, "instanceType": 7}}
    with pytest.raises(InvalidWorkspace) as caught:
        workspaces.parse(data)
    assert [problem.field for problem in caught.value.problems] == ["resource.count", "resource.instanceType"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="a list"),
        pytest.param("kaito.sh", id="a text"),
        pytest.param({}, id="an empty mapping"),
        pytest.param(document(kind="Deployment"), id="another kind"),
        pytest.param(document(metadata={}), id="no name"),
        pytest.param(document(metadata={"name": ""}), id="an empty name"),
        pytest.param(document(metadata={"name": 7}), id="a number for a name"),
        pytest.param(document(metadata=[]), id="metadata is a list"),
    ],
)
def test_without_kind_and_name_there_is_no_workspace(data: Any) -> None:
    reading = workspaces.read(data)
    assert reading.workspace is None
    assert not reading.valid


class TestSpecDigest:
    """The digest follows what the plan is made from, and nothing else."""

    BASE = workspaces.parse(document()).spec_digest

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(document(metadata={"name": "other"}), id="the name"),
            pytest.param(document(metadata={"name": "falcon", "labels": {"a": "b"}}), id="labels"),
            pytest.param(
                document(metadata={"name": "falcon", "annotations": {"a": "b"}}), id="foreign annotations"
            ),
            pytest.param(document(apiVersion="kaito.sh/v1alpha1"), id="the version"),
            pytest.param(document(status={"conditions": []}), id="status"),
            pytest.param(llamacpp(parallel=4), id="a default that is written out"),
            pytest.param(llamacpp(), id="an empty mapping of ours"),
        ],
    )
    def test_stays_for(self, data: dict[str, Any]) -> None:
        assert workspaces.parse(data).spec_digest == self.BASE

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(resource(count=1), id="a count"),
            pytest.param(llamacpp(parallel=5), id="slots"),
            pytest.param(document(inference={"preset": {"name": "falcon-40b"}}), id="the preset"),
            pytest.param(
                document(metadata={"name": "falcon", "annotations": {"kaito.sh/enablelb": "True"}}),
                id="the load balancer",
            ),
        ],
    )
    def test_changes_with(self, data: dict[str, Any]) -> None:
        assert workspaces.parse(data).spec_digest != self.BASE


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("True", True), ("true", False), ("False", False), (None, False)],
    ids=["exactly True", "another case", "False", "absent"],
)
def test_only_the_originals_text_makes_a_load_balancer(value: str | None, wanted: bool) -> None:
    annotations = {} if value is None else {"kaito.sh/enablelb": value}
    assert (
        workspaces.parse(document(metadata={"name": "a", "annotations": annotations})).load_balancer is wanted
    )


class TestPodSettings:
    FLEET = workspaces.PodSettings(labels={"a": "1", "b": "1"}, image_pull_secrets=("x",), queue="q")

    def test_go_on_top_of_the_fleets_key_by_key(self) -> None:
        own = workspaces.PodSettings(
            labels={"b": "2"}, image_pull_secrets=("x", "y"), runtime_class_name="nvidia"
        )
        assert own.over(self.FLEET) == workspaces.PodSettings(
            labels={"a": "1", "b": "2"}, image_pull_secrets=("x", "y"), queue="q", runtime_class_name="nvidia"
        )

    def test_absent_ones_leave_the_fleets(self) -> None:
        assert workspaces.PodSettings().over(self.FLEET) == self.FLEET

    def test_are_written_as_they_are_read(self) -> None:
        assert workspaces.pod_document(self.FLEET) == {
            "labels": {"a": "1", "b": "1"},
            "imagePullSecrets": ["x"],
            "queue": "q",
        }


def test_every_field_says_what_it_means() -> None:
    for path, field in schema.fields():
        assert field.description.endswith("."), path
        assert field.use == "used" or field.note, path
        assert (field.verdict is not None) or field.use == "used" or "accessMode" in path, path


def test_every_ignored_annotation_warns() -> None:
    for name, (reason, fix) in metadata.IGNORED_ANNOTATIONS.items():
        (problem,) = workspaces.read(document(metadata={"name": "a", "annotations": {name: "x"}})).problems
        assert problem.severity == "warning"
        assert reason in problem.reason
        assert problem.fix == fix


_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["falcon", "auto", "-c", "--temp", "kaito.sh/v1beta1", "Workspace"])
)  # fmt: skip
_names = st.sampled_from(sorted({str(part) for path, _ in schema.fields() for part in path})) | st.text(
    max_size=8
)
_anything = st.recursive(
    _scalars,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(_names, inside, max_size=6),
    max_leaves=40,
)


@given(_anything)
def test_reading_never_raises(data: Any) -> None:
    reading = workspaces.read(data)
    assert reading.workspace is not None or not reading.valid


@given(st.dictionaries(_names, _anything, max_size=6), st.dictionaries(_names, _anything, max_size=6))
def test_a_named_workspace_is_always_given(inference: dict[str, Any], resources: dict[str, Any]) -> None:
    reading = workspaces.read(document(inference=inference, resource=resources))
    assert reading.workspace is not None
    for problem in reading.problems:
        assert problem.reason
        assert problem.fix
        assert problem.message.isprintable()
        assert problem.rule
    if reading.valid:
        assert reading.workspace.spec_digest.startswith("sha256:")


@given(st.dictionaries(st.integers() | st.booleans() | st.none() | st.floats(), st.integers(), min_size=1))
def test_keys_that_are_no_text_are_problems(data: dict[Any, int]) -> None:
    assert not workspaces.read(document(resource=data)).valid
    assert not workspaces.read(document(inference={"template": {"spec": data}})).valid
