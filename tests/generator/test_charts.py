"""Plans become objects that Kubernetes takes as they are, and that say everything themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from berth import fleet as fleets
from berth import labels, names
from berth.quantities import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from berth.fleet import Fleet
    from generator.charts.frames import Object
    from tests.generator.conftest import Make

KUBERNETES = "1.37"
CUSTOM = {"Workspace", "NodePool", "PodMonitor", "HTTPRoute"}

ENFORCED: dict[str, Any] = {"networkPolicy": "enforced"}
SEVERAL_NODES: dict[str, Any] = {"gpus_per_replica": 4, "nodes_per_replica": 2, "nodes": {"count": 2}}


def fleet(**document: Any) -> Fleet:
    found, problems = fleets.read(document)
    assert found is not None, problems
    return found


CASES: dict[str, Callable[[Make], dict[str, Object]]] = {
    "a preset on one node": lambda make: make.objects(),
    "a preset in a namespace": lambda make: make.objects(
        make.workspace(metadata={"name": "falcon-7b", "namespace": "chat", "labels": {"team": "a"}})
    ),
    "a load balancer": lambda make: make.objects(
        make.workspace(metadata={"name": "f", "annotations": {"kaito.sh/enablelb": "True"}})
    ),
    "several replicas": lambda make: make.objects(replicas=3, nodes={"count": 2}),
    "several nodes": lambda make: make.objects(fleet=fleet(**ENFORCED), **SEVERAL_NODES),
    "several nodes and replicas": lambda make: make.objects(
        fleet=fleet(**ENFORCED), replicas=2, **SEVERAL_NODES
    ),
    "weights in an image volume": lambda make: make.objects(
        fleet=fleet(kubernetesVersion="1.35"),
        weights=make.weights(hf=None, revision=None, image="registry.example.com/m@sha256:" + "a" * 64),
    ),
    "weights copied from an image": lambda make: make.objects(
        weights=make.weights(
            hf=None,
            revision=None,
            image="registry.example.com/models/falcon:q8",
            pull_secrets=("registry",),
            file="sub/m-00001-of-00003.gguf",
        )
    ),
    "weights on a volume": lambda make: make.objects(
        weights=make.weights(hf=None, revision=None, pvc="models")
    ),
    "gated weights in a cache": lambda make: make.objects(
        fleet=fleet(weights={"cache": {"pvc": "cache"}}),
        weights=make.weights(token_secret="hugging-face", sha256="b" * 64, pinned=True),
    ),
    "a NodePool for Argo CD": lambda make: make.objects(
        fleet=fleet(provisioning="nodepool", gitops="argocd", monitoring={"podMonitor": True})
    ),
    "a static NodePool for Flux": lambda make: make.objects(
        fleet=fleet(provisioning="nodepool", gitops="flux", nodePool={"staticCapacity": True})
    ),
    "an Ingress": lambda make: make.objects(
        make.workspace(
            llamacpp={
                "expose": {"ingress": {"host": "f.example", "tlsSecretName": "t", "ingressClassName": "n"}}
            }
        )
    ),
    "an HTTPRoute": lambda make: make.objects(
        make.workspace(
            llamacpp={"expose": {"httpRoute": {"parentRefs": [{"name": "g", "namespace": "infra"}]}}}
        )
    ),
    "pod settings of fleet and Workspace": lambda make: make.objects(
        make.workspace(llamacpp={"pod": {"queue": "gpu", "runtimeClassName": "nv", "labels": {"a": "b"}}}),
        fleet(pod={"priorityClassName": "p", "imagePullSecrets": ["s"], "tolerations": [{"key": "k"}]}),
    ),
    "a template": lambda make: make.objects(
        make.workspace(template={"spec": {"containers": [{"name": "c", "image": "busybox:1"}]}})
    ),
}  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def objects(request: pytest.FixtureRequest, make: Make) -> dict[str, Object]:
    return CASES[request.param](make)


def test_every_object_is_valid_for_kubernetes(objects: dict[str, Object]) -> None:
    for thing in objects.values():
        if thing["kind"] not in CUSTOM:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)


def test_no_object_holds_what_belongs_to_the_cluster(objects: dict[str, Object]) -> None:
    for thing in objects.values():
        assert "status" not in thing
        assert {"creationTimestamp", "uid", "resourceVersion"}.isdisjoint(thing["metadata"])
        assert "app.kubernetes.io/instance" not in json.dumps(thing)
        assert None not in list(_leaves(thing))


def test_no_default_is_written_that_the_api_server_drops(objects: dict[str, Object]) -> None:
    text = json.dumps(list(objects.values()))
    for dropped in ("readOnly", "initialDelaySeconds", "minReadySeconds", "publishNotReadyAddresses"):
        assert f'"{dropped}": false' not in text
        assert f'"{dropped}": 0' not in text


def test_every_object_names_what_it_was_made_from(objects: dict[str, Object]) -> None:
    for thing in objects.values():
        annotations = thing["metadata"]["annotations"]
        assert annotations[labels.SPEC_DIGEST].startswith("sha256:")
        assert annotations[labels.CATALOG_DIGEST] == "sha256:00000000000000aa"
        # The image names the version anyway, so the note of it changes no more than the image does.
        noted = {key: value for key, value in annotations.items() if key != labels.CONTAINER}
        assert "0.1.0" not in json.dumps({**thing["metadata"], "annotations": noted})


def test_a_pod_template_carries_the_digest_of_its_settings_alone(objects: dict[str, Object]) -> None:
    for thing in objects.values():
        if "template" in thing.get("spec", {}) and thing["kind"] in ("Deployment", "StatefulSet"):
            template = json.dumps(thing["spec"]["template"]["metadata"])
            for other in (labels.SPEC_DIGEST, labels.CATALOG_DIGEST, labels.FLEET_DIGEST, labels.PLAN):
                assert f'"{other}"' not in template


def test_an_absent_namespace_stays_absent(make: Make) -> None:
    assert all("namespace" not in thing["metadata"] for thing in make.objects().values())


def test_a_namespace_stands_on_every_namespaced_object(make: Make) -> None:
    workspace = make.workspace(metadata={"name": "falcon-7b", "namespace": "chat"})
    made = make.objects(workspace, fleet(provisioning="nodepool"))
    where = {thing["kind"]: thing["metadata"].get("namespace") for thing in made.values()}
    assert where.pop("NodePool") is None
    assert set(where.values()) == {"chat"}


@pytest.mark.parametrize(
    ("overrides", "strategy"),
    [
        pytest.param({}, {"type": "Recreate"}, id="one replica and no spare GPUs"),
        pytest.param(
            {"replicas": 2},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            id="several replicas and no spare GPUs",
        ),
        pytest.param(
            {"surge": True},
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            id="room for one replica more",
        ),
    ],
)
def test_a_rollout_never_needs_gpus_that_are_not_planned(
    make: Make, overrides: dict[str, Any], strategy: Object
) -> None:
    assert make.objects(**overrides)["Deployment/falcon-7b"]["spec"]["strategy"] == strategy


def test_a_newer_catalogue_or_spec_changes_no_pod(make: Make) -> None:
    first = make.objects()["Deployment/falcon-7b"]
    second = make.objects(
        catalog_digest="sha256:00000000000000bb",
        spec_digest="sha256:00000000000000cc",
        explanation=("because",),
        warnings=("careful",),
    )["Deployment/falcon-7b"]
    assert first != second
    assert first["spec"] == second["spec"]


def test_another_server_setting_changes_the_pods(make: Make) -> None:
    first = make.objects()["Deployment/falcon-7b"]["spec"]["template"]
    second = make.objects(server=make.server(parallel=8))["Deployment/falcon-7b"]["spec"]["template"]
    key = labels.SERVER_DIGEST
    assert first["metadata"]["annotations"][key] != second["metadata"]["annotations"][key]


def test_selectors_hold_nothing_of_the_spec(make: Make) -> None:
    spec = make.objects()["Deployment/falcon-7b"]["spec"]
    assert spec["selector"] == {"matchLabels": {"kaito.sh/workspace": "falcon-7b"}}


def test_the_workload_carries_what_admission_compares(make: Make) -> None:
    workspace = make.workspace()
    plan = make.plan(workspace)
    carried = make.objects(workspace)["Deployment/falcon-7b"]["metadata"]["annotations"]
    data = json.loads(carried[labels.SERVER])
    assert data["server"] == plan.to_json()["server"]
    assert data["weights"] == plan.to_json()["weights"]
    assert carried[labels.SERVER_DIGEST] == plan.server_digest


def test_the_plan_reaches_workspace_and_pod(make: Make, pod_of: Callable[[Object], Object]) -> None:
    workspace = make.workspace()
    plan = make.plan(workspace)
    made = make.objects(workspace)
    assert made["Workspace/falcon-7b"]["metadata"]["annotations"][labels.PLAN] == plan.dumps()
    assert json.loads(made["ConfigMap/falcon-7b-plan"]["data"]["plan.json"]) == plan.to_json()
    volumes = {volume["name"]: volume for volume in pod_of(made["Deployment/falcon-7b"])["volumes"]}
    assert volumes["plan"]["configMap"]["name"] == "falcon-7b-plan"


def test_the_engine_runs_with_the_plans_own_command_line(
    make: Make, pod_of: Callable[[Object], Object]
) -> None:
    [container] = pod_of(make.objects()["Deployment/falcon-7b"])["containers"]
    front, engine = _split(container["args"])
    assert container["command"] == ["python", "-m", "serving"]
    assert engine == make.server().argv("/models/falcon-7b-Q8_0.gguf")
    assert front[:4] == ["--host", "0.0.0.0", "--port", "5000"]


def test_the_workspace_is_rendered_as_it_stands_in_git(make: Make) -> None:
    metadata = {
        "name": "falcon-7b",
        "labels": {"team": "a"},
        "annotations": {"note": "keep", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    workspace = make.workspace(metadata=metadata)
    thing = make.objects(workspace)["Workspace/falcon-7b"]
    assert thing["inference"] == workspace.document["inference"]
    assert thing["resource"] == workspace.document["resource"]
    assert thing["metadata"]["labels"] == {"team": "a"}
    assert thing["metadata"]["annotations"]["note"] == "keep"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in thing["metadata"]["annotations"]


def test_our_pods_run_under_the_restricted_profile(objects: dict[str, Object]) -> None:
    for thing in objects.values():
        # A pod of the user's own carries no server, and is the user's to secure.
        if labels.SERVER not in thing["metadata"]["annotations"]:
            continue
        pod = thing["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_gpus_are_asked_for_per_pod(make: Make, pod_of: Callable[[Object], Object]) -> None:
    made = make.objects(fleet=fleet(**ENFORCED), **SEVERAL_NODES)
    for name in ("StatefulSet/falcon-7b-0", "StatefulSet/falcon-7b-0-workers"):
        [container] = pod_of(made[name])["containers"]
        assert container["resources"]["requests"]["nvidia.com/gpu"] == "2"
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_group_has_a_leader_that_dials_its_workers(make: Make, pod_of: Callable[[Object], Object]) -> None:
    made = make.objects(
        fleet=fleet(**ENFORCED), gpus_per_replica=6, nodes_per_replica=3, replicas=2, nodes={"count": 6}
    )
    sets = sorted(key for key in made if key.startswith("StatefulSet/"))
    assert sets == [
        "StatefulSet/falcon-7b-0",
        "StatefulSet/falcon-7b-0-workers",
        "StatefulSet/falcon-7b-1",
        "StatefulSet/falcon-7b-1-workers",
    ]
    assert made["StatefulSet/falcon-7b-1-workers"]["spec"]["replicas"] == 2
    [leader] = pod_of(made["StatefulSet/falcon-7b-1"])["containers"]
    front, engine = _split(leader["args"])
    workers = [f"falcon-7b-1-workers-{index}.falcon-7b-headless:50052" for index in (0, 1)]
    assert engine[engine.index("--rpc") + 1] == ",".join(workers)
    assert [front[index + 1] for index, flag in enumerate(front) if flag == "--wait-for"] == workers
    headless = made["Service/falcon-7b-headless"]["spec"]
    assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)
    assert made["StatefulSet/falcon-7b-0"]["spec"]["serviceName"] == "falcon-7b-headless"


def test_pods_of_a_group_belong_to_one_stateful_set_each(make: Make) -> None:
    made = make.objects(fleet=fleet(**ENFORCED), replicas=2, **SEVERAL_NODES)
    sets = [thing for key, thing in made.items() if key.startswith("StatefulSet/")]
    for thing in sets:
        pods = thing["spec"]["template"]["metadata"]["labels"]
        owners = [
            one["metadata"]["name"]
            for one in sets
            if one["spec"]["selector"]["matchLabels"].items() <= pods.items()
        ]
        assert owners == [thing["metadata"]["name"]]


def test_only_leaders_answer_clients_and_only_the_group_reaches_the_rpc(make: Make) -> None:
    made = make.objects(fleet=fleet(**ENFORCED), **SEVERAL_NODES)
    assert made["Service/falcon-7b"]["spec"]["selector"][labels.ROLE] == "leader"
    public, group = made["NetworkPolicy/falcon-7b"]["spec"]["ingress"]
    assert [port["port"] for port in public["ports"]] == [5000, 9090]
    assert "from" not in public
    assert [port["port"] for port in group["ports"]] == [50052]
    assert group["from"] == [{"podSelector": {"matchLabels": {"kaito.sh/workspace": "falcon-7b"}}}]


def test_one_node_opens_no_rpc_port(make: Make) -> None:
    [rule] = make.objects()["NetworkPolicy/falcon-7b"]["spec"]["ingress"]
    assert labels.RPC_PORT not in [port["port"] for port in rule["ports"]]


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [("True", "LoadBalancer"), ("true", "ClusterIP"), ("False", "ClusterIP")],
    ids=["the exact text", "another case", "switched off"],
)
def test_the_annotation_makes_a_load_balancer(make: Make, annotation: str, kind: str) -> None:
    metadata = {"name": "falcon-7b", "annotations": {"kaito.sh/enablelb": annotation}}
    service = make.objects(make.workspace(metadata=metadata))["Service/falcon-7b"]["spec"]
    assert service["type"] == kind
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(80, "http")]


def test_affinity_holds_selector_expressions_and_preferred_nodes(
    make: Make, pod_of: Callable[[Object], Object]
) -> None:
    resource = {
        "instanceType": "Standard_NC12s_v3",
        "labelSelector": {
            "matchLabels": {"apps": "falcon"},
            "matchExpressions": [
                {"key": "zone", "operator": "NotIn", "values": ["b"]},
                {"key": "gpu", "operator": "Exists"},
            ],
        },
        "preferredNodes": ["node-1"],
    }
    affinity = pod_of(make.objects(make.workspace(resource=resource))["Deployment/falcon-7b"])["affinity"]
    node = affinity["nodeAffinity"]
    [term] = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "apps", "operator": "In", "values": ["falcon"]},
        {"key": "zone", "operator": "NotIn", "values": ["b"]},
        {"key": "gpu", "operator": "Exists"},
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["Standard_NC12s_v3"]},
    ]
    [preference] = node["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preference["preference"]["matchExpressions"] == [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}
    ]


def test_on_nodes_that_exist_the_instance_type_is_only_preferred(
    make: Make, pod_of: Callable[[Object], Object]
) -> None:
    made = make.objects(fleet=fleet(provisioning="none"))
    node = pod_of(made["Deployment/falcon-7b"])["affinity"]["nodeAffinity"]
    required = json.dumps(node["requiredDuringSchedulingIgnoredDuringExecution"])
    preferred = json.dumps(node["preferredDuringSchedulingIgnoredDuringExecution"])
    assert labels.INSTANCE_TYPE not in required
    assert labels.INSTANCE_TYPE in preferred


def test_a_node_pool_holds_the_plans_gpus_and_no_more(make: Make, pod_of: Callable[[Object], Object]) -> None:
    made = make.objects(
        fleet=fleet(provisioning="nodepool", fallbackInstanceTypes=["Standard_NC24s_v3"]),
        nodes={"count": 3, "fallback_instance_types": ("Standard_NC24s_v3",)},
    )
    [pool] = [thing for thing in made.values() if thing["kind"] == "NodePool"]
    spec = pool["spec"]
    assert spec["limits"] == {"nvidia.com/gpu": "6"}
    assert "replicas" not in spec
    requirements = {one["key"]: one["values"] for one in spec["template"]["spec"]["requirements"]}
    assert requirements["node.kubernetes.io/instance-type"] == ["Standard_NC12s_v3", "Standard_NC24s_v3"]
    assert spec["template"]["spec"]["expireAfter"] == "Never"
    assert spec["template"]["spec"]["taints"] == [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
    assert spec["template"]["metadata"]["labels"]["apps"] == "falcon"
    [term] = pod_of(made["Deployment/falcon-7b"])["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    pools = [one["values"] for one in term["matchExpressions"] if one["key"] == "karpenter.sh/nodepool"]
    assert pools == [[pool["metadata"]["name"]]]


def test_static_capacity_comes_only_if_asked_for(make: Make) -> None:
    made = make.objects(fleet=fleet(provisioning="nodepool", nodePool={"staticCapacity": True}))
    [pool] = [thing for thing in made.values() if thing["kind"] == "NodePool"]
    assert pool["spec"]["replicas"] == 1
    assert pool["spec"]["limits"] == {"nodes": "1"}


def test_other_provisioners_leave_nodes_to_the_watcher(make: Make) -> None:
    for provisioning in ("nodeclaim", "machine", "none"):
        made = make.objects(fleet=fleet(provisioning=provisioning))
        assert not [thing for thing in made.values() if thing["kind"] == "NodePool"]


def test_pod_settings_reach_every_pod(make: Make) -> None:
    workspace = make.workspace(
        llamacpp={
            "pod": {
                "labels": {"team": "chat"},
                "annotations": {"note": "n"},
                "tolerations": [{"key": "spot", "operator": "Exists"}],
                "queue": "gpu",
            }
        }
    )
    defaults = fleet(
        pod={"priorityClassName": "high", "runtimeClassName": "nvidia", "serviceAccountName": "models"},
        images={"pullSecrets": ["ours"]},
        **ENFORCED,
    )
    made = make.objects(workspace, defaults, weights=make.weights(pull_secrets=("theirs",)), **SEVERAL_NODES)
    assert "ServiceAccount/falcon-7b" not in made
    for key in ("StatefulSet/falcon-7b-0", "StatefulSet/falcon-7b-0-workers"):
        template = made[key]["spec"]["template"]
        pod = template["spec"]
        assert template["metadata"]["labels"]["team"] == "chat"
        assert template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
        assert made[key]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
        assert template["metadata"]["annotations"]["note"] == "n"
        assert {"key": "spot", "operator": "Exists"} in pod["tolerations"]
        assert (pod["priorityClassName"], pod["runtimeClassName"]) == ("high", "nvidia")
        assert pod["serviceAccountName"] == "models"
        assert {"name": "ours"} in pod["imagePullSecrets"]
    leader = made["StatefulSet/falcon-7b-0"]["spec"]["template"]["spec"]
    assert {"name": "theirs"} in leader["imagePullSecrets"]


def test_gpu_nodes_are_tolerated(make: Make, pod_of: Callable[[Object], Object]) -> None:
    tolerations = pod_of(make.objects()["Deployment/falcon-7b"])["tolerations"]
    assert {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"} in tolerations
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations
    assert {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"} in tolerations


def test_larger_weights_get_more_time_to_start(make: Make, pod_of: Callable[[Object], Object]) -> None:
    failures = []
    for size in (1 * GIB, 140 * GIB):
        made = make.objects(weights=make.weights(size=size))
        [container] = pod_of(made["Deployment/falcon-7b"])["containers"]
        probe = container["startupProbe"]
        failures.append(probe["failureThreshold"])
        assert probe["failureThreshold"] * probe["periodSeconds"] > size / (200 * 1024**2)
    assert failures[0] < failures[1]


def test_weights_kept_in_host_memory_are_asked_for(make: Make, pod_of: Callable[[Object], Object]) -> None:
    [container] = pod_of(make.objects()["Deployment/falcon-7b"])["containers"]
    # 0.625 GiB of the plan, 1 GiB of prompts seen before, 1.5 GiB allowance, rounded up to 256 MiB.
    assert container["resources"]["requests"]["memory"] == "3328Mi"


def test_an_image_volume_needs_no_copy(make: Make, pod_of: Callable[[Object], Object]) -> None:
    made = make.objects(
        fleet=fleet(weights={"imageVolumes": True}),
        weights=make.weights(hf=None, revision=None, image="registry.example.com/m:q8"),
    )
    pod = pod_of(made["Deployment/falcon-7b"])
    assert "initContainers" not in pod
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["weights"]["image"] == {
        "reference": "registry.example.com/m:q8",
        "pullPolicy": "IfNotPresent",
    }


def test_every_part_of_a_split_model_is_copied(make: Make, pod_of: Callable[[Object], Object]) -> None:
    weights = make.weights(hf=None, revision=None, image="r.example.com/m:q8", file="x/m-00001-of-00003.gguf")
    pod = pod_of(make.objects(weights=weights)["Deployment/falcon-7b"])
    tools, copy = pod["initContainers"]
    assert tools["image"] == pod["containers"][0]["image"]
    assert copy["image"] == "r.example.com/m:q8"
    assert copy["command"] == [
        "/berth/copy", "--to", "/berth-weights/x",
        "/x/m-00001-of-00003.gguf", "/x/m-00002-of-00003.gguf", "/x/m-00003-of-00003.gguf",
    ]  # fmt: skip


def test_a_download_is_fixed_and_has_the_token_alone(make: Make, pod_of: Callable[[Object], Object]) -> None:
    weights = make.weights(token_secret="hugging-face", sha256="b" * 64)
    pod = pod_of(make.objects(weights=weights)["Deployment/falcon-7b"])
    [fetch] = pod["initContainers"]
    command = fetch["command"]
    assert command[command.index("--revision") + 1] == weights.revision
    assert command[command.index("--sha256") + 1] == "b" * 64
    secrets = [one for one in fetch["env"] if "valueFrom" in one]
    assert [one["valueFrom"]["secretKeyRef"]["name"] for one in secrets] == ["hugging-face"]
    assert not [one for one in pod["containers"][0]["env"] if "valueFrom" in one]


def test_only_the_download_may_write_weights(make: Make, pod_of: Callable[[Object], Object]) -> None:
    pod = pod_of(make.objects()["Deployment/falcon-7b"])
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "weights"]
    assert mount["readOnly"] is True


@pytest.mark.parametrize("gitops", ["argocd", "flux", "none"])
def test_gitops_tools_are_told_in_their_own_words(make: Make, gitops: str) -> None:
    made = make.objects(
        make.workspace(llamacpp={"pod": {"annotations": {"query": "${model}"}}}),
        fleet(provisioning="nodepool", gitops=gitops),
    )
    [pool] = [thing for thing in made.values() if thing["kind"] == "NodePool"]
    notes = pool["metadata"]["annotations"]
    deployment = made["Deployment/falcon-7b"]["metadata"]["annotations"]
    text = json.dumps(made)
    assert ("argocd.argoproj.io" in text) == (gitops == "argocd")
    assert ("kustomize.toolkit.fluxcd.io" in text) == (gitops == "flux")
    if gitops == "argocd":
        assert "Prune=confirm" in notes["argocd.argoproj.io/sync-options"]
        assert notes["argocd.argoproj.io/sync-wave"] == "-1"
    if gitops == "flux":
        assert notes["kustomize.toolkit.fluxcd.io/prune"] == "disabled"
        assert deployment["kustomize.toolkit.fluxcd.io/substitute"] == "disabled"


@pytest.mark.parametrize(
    ("name", "longest"),
    [("a" * 63, 63), ("a" * 58 + ".b.cd", 63), ("m" * 200, 63)],
    ids=["as long as a label may be", "a dot where the cut is", "far too long"],
)
def test_parts_of_long_names_stay_apart_and_fit(name: str, longest: int) -> None:
    made = [names.part(name, suffix) for suffix in ("plan", "headless", "api-keys")]
    made += [names.part(name + "x", "plan"), names.of_cluster("chat", name), names.of_cluster(None, name)]
    assert len(set(made)) == len(made)
    assert all(len(one) <= longest and one[-1] not in "-." for one in made)


def test_cluster_scoped_names_never_meet() -> None:
    assert names.of_cluster("a", "b-c") != names.of_cluster("a-b", "c")
    assert names.of_cluster(None, "a-b") != names.of_cluster("a", "b")


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        for item in data.values():
            yield from _leaves(item)
    elif isinstance(data, list):
        for item in data:
            yield from _leaves(item)
    else:
        yield data


def _split(args: list[str]) -> tuple[list[str], list[str]]:
    at = args.index("--")
    return args[:at], args[at + 1 :]
