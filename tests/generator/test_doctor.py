"""`berth doctor` on clusters that were written down: every fault is named once, and nothing else is."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth import labels, workspaces
from berth.fleet import Fleet, FleetWeights, Monitoring, WeightsCache
from generator.doctor import cluster, nodes
from generator.doctor.facts import Absent, Facts, questions
from generator.doctor.findings import Finding, State
from generator.platform import frame
from tests.generator.recorded import FLEET, MISSING, NOW, Answers, authority, lease, listed, node, well

if TYPE_CHECKING:
    from collections.abc import Callable

FORBIDDEN = Absent('Error from server (Forbidden): User "jane" cannot list')


def diagnosed(answers: Answers, fleet: Fleet = FLEET) -> list[Finding]:
    facts = Facts(answers)
    return [*cluster.judge(facts, fleet, NOW), *nodes.judge(facts, fleet)]


def complaints(answers: Answers, fleet: Fleet = FLEET) -> list[Finding]:
    return [one for one in diagnosed(answers, fleet) if one.state is not State.fine]


def test_a_well_cluster_has_no_complaints() -> None:
    assert complaints(well()) == []


def test_every_question_has_an_answer_in_these_tests() -> None:
    assert set(questions(FLEET)) == set(well())


def test_what_may_not_be_looked_at_is_unknown_and_no_error() -> None:
    answers = dict.fromkeys(well(), FORBIDDEN) | {"version": well()["version"]}
    found = complaints(answers)
    assert {one.state for one in found} == {State.unknown}
    assert len(found) >= 8


def plans(text: str | None) -> Any:
    annotations = {} if text is None else {labels.PLAN: text}
    workspace = yaml.safe_load(
        "{apiVersion: kaito.sh/v1beta1, kind: Workspace, metadata: {name: a, namespace: b}, "
        "resource: {labelSelector: {matchLabels: {a: b}}}, inference: {preset: {name: falcon-7b}}}"
    )
    workspace["metadata"]["annotations"] = annotations
    return listed(workspace)


def finalized(answers: Answers) -> None:
    answers["workspaces"] = plans(None)
    (workspace,) = answers["workspaces"]["items"]
    digest = workspaces.parse(workspace).spec_digest
    workspace["metadata"]["annotations"] = {labels.PLAN: json.dumps({"specDigest": digest})}
    workspace["metadata"]["finalizers"] = ["theirs.example.com/x", "workspace.finalizer.kaito.sh"]


def of_kaito(answers: Answers) -> None:
    hooks = [{"rules": [{"apiGroups": ["kaito.sh"], "resources": ["workspaces"]}]}]
    answers["validating"]["items"].append(
        {"metadata": {"name": "validation.workspace.kaito.sh"}, "webhooks": hooks}
    )


def bundle(text: str | None) -> Callable[[Answers], None]:
    def spoil(answers: Answers) -> None:
        for hook in answers["mutating"]["items"][0]["webhooks"]:
            hook["clientConfig"]["caBundle"] = text

    return spoil


def ready(replicas: int) -> Callable[[Answers], None]:
    def spoil(answers: Answers) -> None:
        answers["deployments"]["items"][1]["status"] = {"readyReplicas": replicas}

    return spoil


def answer(name: str, value: Any) -> Callable[[Answers], None]:
    return lambda answers: answers.update({name: value})


CASES: dict[str, tuple[Callable[[Answers], None], State, str, str]] = {
    "an old Kubernetes": (
        answer("version", {"serverVersion": {"gitVersion": "v1.29.4"}}),
        State.error,
        "match conditions",
        "upgrade",
    ),
    "a Kubernetes older than the fleet file says": (
        answer("version", {"serverVersion": {"gitVersion": "v1.30.1"}}),
        State.error,
        "kubernetesVersion 1.31",
        '"1.30"',
    ),
    "no CRD": (answer("crd", MISSING), State.error, "not there", "berth install"),
    "KAITO's CRD": (
        lambda answers: answers["crd"]["metadata"].update(labels={}),
        State.error,
        "not berth's",
        "berth install",
    ),
    "a CRD that is not established": (
        lambda answers: answers["crd"].pop("status"),
        State.error,
        "not established",
        "kubectl describe crd",
    ),
    "another version's CRD": (
        lambda answers: answers["crd"]["spec"]["versions"][0]["schema"].clear(),
        State.warning,
        "another version's",
        "berth install",
    ),
    "KAITO beside it": (
        of_kaito,
        State.error,
        "two products",
        "kubectl delete validatingwebhookconfiguration",
    ),
    "no watcher": (
        lambda answers: answers["deployments"]["items"].pop(),
        State.error,
        "not installed",
        "berth install",
    ),
    "no ready watcher": (ready(0), State.error, "no replica of 2 is ready", "describe pods"),
    "one ready watcher": (ready(1), State.warning, "1 of 2 replicas", "describe pods"),
    "a dead leader": (
        answer("leases", listed(lease(frame.WEBHOOK, NOW), lease(frame.WATCHER, NOW - timedelta(minutes=3)))),
        State.error,
        "did not renew its lease for 180 s",
        "logs",
    ),
    "nobody led": (
        answer("leases", listed(lease(frame.WEBHOOK, NOW))),
        State.error,
        "nobody ever led",
        "logs",
    ),
    "no webhook configuration": (answer("mutating", listed()), State.error, "not there", "berth install"),
    "no authority": (bundle(None), State.error, "no caBundle", "logs"),
    "a broken authority": (bundle("bm90aGluZw=="), State.error, "no authority that can be read", "logs"),
    "an authority that ran out": (bundle(authority(NOW - timedelta(days=1))), State.error, "ran out", "logs"),
    "an authority that runs out": (
        bundle(authority(NOW + timedelta(days=3))),
        State.warning,
        "runs out",
        "logs",
    ),
    "a webhook out of reach": (
        answer("admission", Absent('Internal error: failed calling webhook "workspaces.berth.dev": timeout')),
        State.error,
        "can't reach the webhook",
        "endpointslices",
    ),
    "a certificate that was not renewed": (
        answer("webhook metrics", f"berth_webhook_certificate_not_after_seconds {NOW.timestamp()}\n"),
        State.error,
        "was not renewed",
        "logs",
    ),
    "a fleet file that the watcher can't use": (
        answer("watcher metrics", "berth_watcher_config_reload_successful 0.0\n"),
        State.error,
        "can't be used",
        "logs",
    ),
    "another fleet file": (
        lambda answers: answers["fleet"]["data"].update({"berth.yaml": "cloud: aws\n"}),
        State.error,
        "something else than berth.yaml",
        "--fleet berth.yaml",
    ),
    "a broken fleet file": (
        lambda answers: answers["fleet"]["data"].update({"berth.yaml": "[\n"}),
        State.error,
        "none that can be used",
        "--fleet",
    ),
    "no Karpenter": (
        answer("karpenter v1", MISSING),
        State.error,
        "does not serve karpenter.sh/v1",
        "install Karpenter",
    ),
    "a Karpenter without NodeClaims": (
        answer("karpenter v1", {"resources": []}),
        State.error,
        "has no nodeclaims",
        "version",
    ),
    "no node class": (answer("node class", MISSING), State.error, "is not there", "nodeClass in berth.yaml"),
    "a node class that is not ready": (
        answer(
            "node class",
            {"status": {"conditions": [{"type": "Ready", "status": "False", "message": "no subnet"}]}},
        ),
        State.error,
        "no subnet",
        "kubectl describe",
    ),
    "a GPU node without GPUs": (
        answer("nodes", listed(node())),
        State.error,
        "announces no nvidia.com/gpu",
        "describe node n1",
    ),
    "a Workspace without a plan": (
        answer("workspaces", plans(None)),
        State.error,
        "without a plan",
        "berth render",
    ),
    "a Workspace with a plan of another spec": (
        answer("workspaces", plans('{"specDigest":"x"}')),
        State.error,
        "another spec",
        "berth render",
    ),
    "KAITO's finalizer": (
        finalized,
        State.warning,
        "only KAITO's controller",
        '--patch \'{"metadata": {"finalizers": ["theirs.example.com/x"]}}\'',
    ),
    "KAITO's nodes": (
        answer("KAITO's nodeclaims", listed({"metadata": {"name": "ws1"}}, {"metadata": {"name": "ws2"}})),
        State.warning,
        "2 were made by KAITO",
        "kubectl delete nodeclaims.karpenter.sh ws1 ws2",
    ),
    "a Machine of earlier days": (
        answer("machines", listed({"metadata": {"name": "ws1"}})),
        State.warning,
        "left of provisioning: machine",
        "kubectl delete",
    ),
}
"""What is spoilt, and the one complaint that it leads to."""


@pytest.mark.parametrize("case", CASES)
def test_a_fault_leads_to_one_complaint_with_its_fix(case: str) -> None:
    spoil, state, why, fix = CASES[case]
    answers = well()
    spoil(answers)
    (found,) = complaints(answers)
    assert (found.state, why in found.why, fix in found.fix) == (state, True, True), found


@pytest.mark.parametrize(
    ("fleet", "answers", "why"),
    [
        (Fleet(monitoring=Monitoring(pod_monitor=True)), {}, "the cluster serves none"),
        (Fleet(several_nodes="leaderworkerset"), {}, "the cluster does not serve it"),
        (Fleet(network_policy="enforced"), {}, "no network plugin known"),
        (Fleet(provisioning="machine"), {"node class": MISSING}, "does not serve karpenter.sh/v1alpha5"),
        (Fleet(provisioning="none"), {"nodes": listed()}, "none will be made"),
        (
            Fleet(weights=FleetWeights(cache=WeightsCache(pvc="weights"))),
            {"volumes": listed(), "workspaces": plans(None)},
            "namespace b has none",
        ),
    ],
    ids=[
        "no Prometheus operator",
        "no LeaderWorkerSets",
        "no policies",
        "no Machines",
        "no GPU nodes",
        "no volume",
    ],
)
def test_what_the_fleet_file_asks_for_is_looked_for(fleet: Fleet, answers: Answers, why: str) -> None:
    found = complaints({**well(fleet), **answers}, fleet)
    assert any(why in one.why and one.fix for one in found), found


def test_no_gpu_node_yet_is_fine_where_nodes_are_made_and_a_plugin_waits() -> None:
    answers = well() | {"nodes": listed({"metadata": {"name": "cpu"}, "status": {}})}
    assert complaints(answers) == []
    answers["daemonsets"] = listed()
    (found,) = complaints(answers)
    assert found.state is State.warning


def test_a_chart_may_stand_in_any_namespace() -> None:
    answers = well()
    for name in ("validating", "mutating"):
        for hook in answers[name]["items"][0]["webhooks"]:
            hook["clientConfig"]["service"]["namespace"] = "elsewhere"
    ready(0)(answers)
    (found,) = complaints(answers)
    assert "kubectl --namespace elsewhere describe pods" in found.fix


def test_where_nothing_sends_workspaces_to_the_webhook_nobody_answered() -> None:
    answers = well() | {"validating": listed(), "mutating": listed()}
    (told,) = [one for one in diagnosed(answers) if one.what == "admission"]
    assert told.state is State.unknown
    assert "taken unseen" in told.why


@pytest.mark.parametrize(
    ("fleet", "words"),
    [
        pytest.param(Fleet(), "provisioning is by default nodeclaim, and the cluster", id="no fleet file"),
        pytest.param(Fleet(provisioning="nodeclaim"), "berth.yaml says provisioning: nodeclaim", id="said"),
    ],
)
def test_only_what_the_fleet_file_says_is_told_as_its_words(fleet: Fleet, words: str) -> None:
    answers = well() | {"karpenter v1": MISSING}
    assert any(words in one.why for one in complaints(answers, fleet))
