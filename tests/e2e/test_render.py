"""`berth render FILE --out - | kubectl apply -f -` against a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Kubectl

QUICK_START = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: workspace-falcon-7b
  annotations:
    kaito.sh/enablelb: "True"
resource:
  instanceType: "Standard_NC12s_v3"
  labelSelector:
    matchLabels:
      apps: falcon-7b
inference:
  preset:
    name: "falcon-7b"
"""
SEVERAL_NODES = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: large}
resource:
  count: 2
  instanceType: Standard_NC24ads_A100_v4
  labelSelector: {matchLabels: {pool: large}}
inference:
  preset: {name: llama-2-70b-chat}
  llamacpp:
    quantization: F16
    weights: {pvc: models, file: llama-2-70b-chat.gguf}
"""
EVERYTHING = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: everything}
resource:
  instanceType: standard_nc24ads_a100_v4
  preferredNodes: [node-1]
  labelSelector:
    matchLabels: {pool: chat}
    matchExpressions: [{key: zone, operator: NotIn, values: [c]}]
inference:
  preset: {name: falcon-7b-instruct}
  llamacpp:
    quantization: Q8_0
    contextSize: 2048
    parallel: 2
    replicas: 2
    weights: {image: "example.com/weights@sha256:DIGEST", file: model.gguf, pullSecrets: [registry]}
    extraArgs: [--threads, "8"]
    pod:
      labels: {team: search}
      annotations: {note: hello}
      tolerations: [{key: pool, operator: Exists, effect: NoSchedule}]
      priorityClassName: high
      serviceAccountName: models
    expose: {ingress: {host: chat.example.com, path: /falcon, tlsSecretName: chat-tls}}
""".replace("DIGEST", "ab" * 32)
TEMPLATE = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: own-pod}
resource:
  instanceType: Standard_NC24ads_A100_v4
  labelSelector: {matchLabels: {pool: own}}
inference:
  template:
    metadata: {labels: {mine: "yes"}}
    spec:
      containers:
      - name: main
        image: example.com/main:1
        resources: {limits: {nvidia.com/gpu: "1"}}
"""
SPECS = {
    "the original's quick start": QUICK_START,
    "a model over several nodes": SEVERAL_NODES,
    "a spec with everything in it": EVERYTHING,
    "a pod of one's own": TEMPLATE,
}
FLEET = "networkPolicy: enforced\nprovisioning: none\n"

ADDED_BY_THE_SERVER = {
    "Service.spec.clusterIP", "Service.spec.clusterIPs", "Service.spec.ipFamilies",
    "Service.spec.ipFamilyPolicy", "Service.spec.ports[].nodePort",
    "Deployment.spec.template.spec.serviceAccount", "StatefulSet.spec.template.spec.serviceAccount",
}  # fmt: skip
"""What the server allots, and an old name that it repeats; every default is in the manifests already."""


def render(repository: Path, *specs: str) -> str:
    """Write a repository and return what `berth render workspaces.yaml --out -` prints in it."""
    (repository / "berth.yaml").write_text(FLEET)
    (repository / "workspaces.yaml").write_text("---\n".join(specs))
    done = subprocess.run(
        [sys.executable, "-m", "generator", "render", "workspaces.yaml", "--out", "-"],
        cwd=repository, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(stream: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(stream) if document]


def live(cluster: Kubectl, namespace: str, stream: str) -> list[dict[str, Any]]:
    """Return the server's copy of every object of a stream, in its order."""
    found: list[dict[str, Any]] = cluster.get("-n", namespace, "-f", "-", stdin=stream)["items"]
    return found


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> str:
    """All specs in one render."""
    return render(tmp_path_factory.mktemp("repository"), *SPECS.values())


def test_what_is_applied_differs_from_nothing(cluster: Kubectl, namespace: str, stream: str) -> None:
    applied = cluster("apply", "--validate=strict", "-n", namespace, "-f", "-", stdin=stream)
    assert len(applied.out.splitlines()) == len(objects(stream))
    assert "Warning" not in applied.err
    differing = cluster("diff", "-n", namespace, "-f", "-", stdin=stream, check=False)
    assert (differing.code, differing.out, differing.err) == (0, "", "")


def test_what_is_applied_again_is_unchanged(cluster: Kubectl, namespace: str, stream: str) -> None:
    """But for disruption budgets, whose selector kubectl always sends again."""
    cluster("apply", "-n", namespace, "-f", "-", stdin=stream)
    again = cluster("apply", "-n", namespace, "-f", "-", stdin=stream)
    changed = [line.split()[0] for line in again.out.splitlines() if not line.endswith(" unchanged")]
    assert [name for name in changed if not name.startswith("poddisruptionbudget")] == []


def test_the_server_adds_no_default(cluster: Kubectl, namespace: str, stream: str) -> None:
    """Except to a pod of the user's own, which is left as it is."""
    cluster("apply", "--server-side", "-n", namespace, "-f", "-", stdin=stream)
    added = set()
    for manifest, found in zip(objects(stream), live(cluster, namespace, stream), strict=True):
        if manifest["metadata"]["name"] != "own-pod":
            for key in ("resource", "inference", "spec", "data"):
                added |= set(
                    differences(manifest.get(key, {}), found.get(key, {}), f"{manifest['kind']}.{key}")
                )
    assert added <= ADDED_BY_THE_SERVER


def differences(rendered: Any, found: Any, path: str) -> Iterator[str]:
    """Yield the paths of what the server added or changed; it leaves out what is empty, zero or false."""
    if isinstance(rendered, dict) and isinstance(found, dict):
        for key in rendered.keys() | found.keys():
            if key not in rendered:
                yield f"{path}.{key}"
            elif key in found:
                yield from differences(rendered[key], found[key], f"{path}.{key}")
            elif rendered[key]:
                yield f"{path}.{key} is gone"
    elif isinstance(rendered, list) and isinstance(found, list) and len(rendered) == len(found):
        for one, other in zip(rendered, found, strict=True):
            yield from differences(one, other, f"{path}[]")
    elif rendered != found:
        yield f"{path} is {found!r} and not {rendered!r}"


def test_a_second_field_manager_changes_nothing(cluster: Kubectl, namespace: str, stream: str) -> None:
    """Nor is it refused: a zero or a `false` that the server drops would be a conflict."""
    cluster(
        "apply",
        "--server-side",
        "--field-manager=argocd-controller",
        "-n",
        namespace,
        "-f",
        "-",
        stdin=stream,
    )
    before = live(cluster, namespace, stream)
    cluster(
        "apply",
        "--server-side",
        "--field-manager=kustomize-controller",
        "-n",
        namespace,
        "-f",
        "-",
        stdin=stream,
    )
    after = live(cluster, namespace, stream)
    for one in (*before, *after):
        del one["metadata"]["resourceVersion"]
    assert before == after


def test_every_pod_is_admitted_where_only_restricted_ones_are(
    cluster: Kubectl, namespace: str, stream: str
) -> None:
    cluster("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    pods = 0
    for manifest in objects(stream):
        if manifest["kind"] in ("Deployment", "StatefulSet") and manifest["metadata"]["name"] != "own-pod":
            template = manifest["spec"]["template"]
            template["spec"].pop("priorityClassName", None)
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**template["metadata"], "name": f"pod-{pods}"},
                "spec": template["spec"],
            }
            cluster("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
            pods += 1
    assert pods == 4


CHANGES = {
    "instance-type": {"Standard_NC12s_v3": "Standard_NC24ads_A100_v4"},
    "selector": {"apps: falcon-7b": "pool: chat"},
    "model": {'name: "falcon-7b"': "name: falcon-40b", "Standard_NC12s_v3": "Standard_NC96ads_A100_v4"},
    "service": {'enablelb: "True"': 'enablelb: "False"'},
    "pod": {
        'preset:\n    name: "falcon-7b"': "template: {spec: {containers: [{name: main, image: 'e/m:1'}]}}"
    },
}


def changed(spec: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        assert old in spec
        spec = spec.replace(old, new)
    return spec


@pytest.fixture(scope="module")
def before_and_after(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """One render of the quick start under several names, and one with a change to each."""
    folder = tmp_path_factory.mktemp("changes")
    named = {name: QUICK_START.replace("workspace-falcon-7b", name) for name in CHANGES}
    before = render(folder, *named.values())
    return before, render(folder, *(changed(spec, CHANGES[name]) for name, spec in named.items()))


@pytest.mark.parametrize("method", [(), ("--server-side",)], ids=["by the client", "by the server"])
def test_a_change_in_git_is_an_update_and_never_a_refusal(
    cluster: Kubectl, namespace: str, before_and_after: tuple[str, str], method: tuple[str, ...]
) -> None:
    for stream in before_and_after:
        cluster("apply", *method, "-n", namespace, "-f", "-", stdin=stream)
    after = before_and_after[1]
    for manifest, found in zip(objects(after), live(cluster, namespace, after), strict=True):
        if manifest["kind"] == "Deployment":
            assert not [one for one in differences(manifest["spec"], found["spec"], "spec") if " is " in one]
