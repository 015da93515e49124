"""A real API server asks the real webhook over TLS: what people read in kubectl, and that nothing drifts."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from generator.platform import frame
from tests.e2e.conftest import ROOT, free_ports
from tests.e2e.webhooks import KINDS, NAME, as_installed
from tests.webhook.asking import rendered, workspace
from tests.webhook.test_admission import spoil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Kubectl

TRANSCRIPTS = Path(__file__).parent / "transcripts"
START_SECONDS = 30
OLD: dict[str, Any] = {
    "resource": {"instanceType": "Standard_NC6s_v3", "count": 1},
    "inference": {"preset": {"name": "falcon-40b"}},
}
"""Fits nowhere near."""


@pytest.fixture(scope="module")
def guarded(cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """The API server with both webhooks on, as the platform has them."""
    folder = tmp_path_factory.mktemp("webhook")
    (port,) = free_ports(1)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "webhook", "--standalone", f"--port={port}", f"--cert-dir={folder}"],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while '"ready"' not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        # Stored before there were rules, so neither filled nor checked.
        cluster("create", "-f", "-", stdin=json.dumps(workspace(**OLD)))
        for one in as_installed(frame.Settings(), port, (folder / "ca.crt").read_bytes()):
            cluster("apply", "--server-side", "-f", "-", stdin=json.dumps(one))
        _wait_until_asked(cluster)
        yield cluster
    finally:
        for kind in KINDS:
            cluster("delete", kind, NAME, "--ignore-not-found")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def _wait_until_asked(cluster: Kubectl) -> None:
    """The API server takes up a new configuration a moment later."""
    wrong = json.dumps(workspace("wrong", inference={"preset": {"name": "no-such-model"}}))
    deadline = time.monotonic() + START_SECONDS
    while (
        "no-such-model" not in cluster("create", "--dry-run=server", "-f", "-", stdin=wrong, check=False).err
    ):
        assert time.monotonic() < deadline, "the API server never asked the webhook"
        time.sleep(0.2)


def changed(what: str) -> dict[str, Any]:
    found = copy.deepcopy(rendered("Deployment")[f"{FALCON}/deployment-workspace-falcon-7b.yaml"])
    spoil(found, what)
    return found


def stale() -> dict[str, Any]:
    found = copy.deepcopy(rendered("Workspace")[f"{FALCON}/workspace-workspace-falcon-7b.yaml"])
    found["inference"]["llamacpp"] = {"parallel": 8}
    return found


FALCON = "manifests/examples/kaito/workspace-falcon-7b"
MISTAKES = {
    "too-small": workspace(**OLD),
    "too-much-context": workspace(
        resource={"instanceType": "Standard_NC6s_v3", "count": 1},
        inference={"preset": {"name": "llama-3.1-8b-instruct"}, "llamacpp": {"contextSize": 131072}},
    ),
    "unknown-preset": workspace(inference={"preset": {"name": "falcon-7c"}}),
    "unknown-instance-type": workspace(resource={"instanceType": "Standard_NC24ads_A100_v5"}),
    "unknown-quantization": workspace(inference={"llamacpp": {"quantization": "Q9_0"}}),
    "a-flag-of-the-plan": workspace(inference={"llamacpp": {"extraArgs": ["--ctx-size", "9"]}}),
    "two-mistakes": workspace(
        resource={"instanceType": "Standard_NC24ads_A100_v5"}, inference={"preset": {"name": "falcon-7c"}}
    ),
    "a-stale-plan": stale(),
    "a-deployment-with-more-context": changed("more context"),
    "a-deployment-with-other-gpus": changed("other GPUs"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_kubectl_says(guarded: Kubectl, namespace: str, case: str, update_golden: bool) -> None:
    document = json.dumps(MISTAKES[case])
    told = [
        guarded("create", "-n", namespace, "-f", "-", *dry, stdin=document, check=False)
        for dry in ((), ("--dry-run=server",))
    ]
    assert [result.code for result in told] == [1, 1]
    assert told[0].err == told[1].err
    file = TRANSCRIPTS / f"{case}.txt"
    if update_golden:
        TRANSCRIPTS.mkdir(exist_ok=True)
        file.write_text(told[0].err)
    assert told[0].err == file.read_text()


def test_every_transcript_has_its_mistake() -> None:
    assert {file.stem for file in TRANSCRIPTS.glob("*.txt")} == set(MISTAKES)


EXAMPLES = {file: document for file, document in rendered().items() if file.startswith("manifests/examples/")}


def _spec(document: dict[str, Any]) -> dict[str, Any]:
    """What git holds of an object; the API server's own metadata left out."""
    metadata = document["metadata"]
    kept = {key: metadata.get(key) for key in ("name", "labels", "annotations")}
    kept["annotations"] = {
        key: value
        for key, value in (kept["annotations"] or {}).items()
        if key != "kubectl.kubernetes.io/last-applied-configuration"
    }
    return {**{key: document[key] for key in document if key not in ("metadata", "status")}, "metadata": kept}


@pytest.mark.parametrize("mode", ["client-side", "server-side"])
@pytest.mark.parametrize("file", EXAMPLES)
def test_what_is_applied_stays_as_git_has_it(guarded: Kubectl, namespace: str, file: str, mode: str) -> None:
    flags = ["--server-side"] if mode == "server-side" else []
    place = str(ROOT / file)
    guarded("apply", *flags, "-n", namespace, "-f", place)
    again = guarded("apply", *flags, "-n", namespace, "-f", place)
    assert guarded("diff", *flags, "-n", namespace, "-f", place, check=False).code == 0
    if mode == "client-side":
        assert "unchanged" in again.out
    document = EXAMPLES[file]
    if document["kind"] == "Workspace":
        found = guarded.get("-n", namespace, f"workspaces.v1alpha1.kaito.sh/{document['metadata']['name']}")
        assert _spec(found) == _spec(document)


def test_a_pod_of_a_changed_workload_is_refused_and_one_unchanged_runs(
    guarded: Kubectl, namespace: str
) -> None:
    template = rendered("Deployment")[f"{FALCON}/deployment-workspace-falcon-7b.yaml"]["spec"]["template"]
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "one"},
        "spec": {**template["spec"], "serviceAccountName": "default"},
    }
    guarded("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    args = pod["spec"]["containers"][0]["args"]
    args[args.index("--ctx-size") + 1] = "999999"
    pod["metadata"]["name"] = "two"
    refused = guarded("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod), check=False)
    assert "--ctx-size is 999999" in refused.err


def test_a_workspace_that_is_not_rendered_warns_and_is_filled(guarded: Kubectl, namespace: str) -> None:
    result = guarded("apply", "-n", namespace, "-f", "-", stdin=json.dumps(workspace()))
    assert "no plan is rendered, so nothing runs" in result.err
    found = guarded.get("-n", namespace, "workspace/assistant")
    assert found["inference"]["llamacpp"] == {"parallel": 4, "cacheTypeK": "f16", "cacheTypeV": "f16"}
    again = guarded("apply", "-n", namespace, "-f", "-", stdin=json.dumps(workspace()))
    assert "unchanged" in again.out


def test_what_the_rules_refuse_today_can_still_be_labelled_and_deleted(
    guarded: Kubectl, namespace: str
) -> None:
    refused = guarded("apply", "-n", namespace, "-f", "-", stdin=json.dumps(workspace(**OLD)), check=False)
    assert refused.code == 1
    finalizer = {"metadata": {"finalizers": ["berth.dev/nodes"], "labels": {"x": "y"}}}
    guarded("patch", "workspace/assistant", "--type=merge", "-p", json.dumps(finalizer))
    guarded("delete", "workspace/assistant", "--wait=false")
    freed = json.dumps({"metadata": {"finalizers": None}})
    guarded("patch", "workspace/assistant", "--type=merge", "-p", freed)
    assert guarded("get", "workspace/assistant", check=False).code == 1
