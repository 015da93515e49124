"""The rendered platform on a real API server: every field is taken, and read back as git has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from berth.fleet import Fleet
from generator import platform
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.plans import Provisioning
    from tests.e2e.conftest import Kubectl, Result

CONFIGURATIONS = ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Iterator[Kubectl]:
    """The whole platform; nothing runs its pods here, so the configurations go again at the end."""
    text = platform.stream(frame.Settings())
    # The namespace is there a moment after it was made.
    kubectl("create", "namespace", frame.NAMESPACE, check=False)
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
        yield kubectl
    finally:
        for kind in CONFIGURATIONS:
            kubectl("delete", kind, frame.WEBHOOK, "--ignore-not-found")


def apply(kubectl: Kubectl, things: list[Any]) -> Result:
    text = "---\n".join(json.dumps(one) + "\n" for one in things)
    return kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def held(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Return every place where what git holds is not what the API server holds."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [fault for key in wanted for fault in held(wanted[key], found.get(key), f"{place}.{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            fault
            for index, (one, other) in enumerate(zip(wanted, found, strict=True))
            for fault in held(one, other, f"{place}[{index}]")
        ]
    return [] if wanted == found else [f"{place}: {wanted!r} became {found!r}"]


def test_every_object_is_read_back_as_it_was_rendered(installed: Kubectl) -> None:
    for wanted in yaml.safe_load_all(platform.stream(frame.Settings())):
        metadata = wanted["metadata"]
        space = ["-n", metadata["namespace"]] if "namespace" in metadata else []
        found = installed.get(wanted["kind"], metadata["name"], *space)
        assert held(wanted, found) == []


@pytest.mark.parametrize("way", ["nodeclaim", "machine", "nodepool", "none"])
def test_another_way_to_get_nodes_changes_the_watchers_rights_and_nothing_else(
    installed: Kubectl, way: Provisioning
) -> None:
    settings = frame.Settings(Fleet(provisioning=way))
    wanted = [one for one in platform.objects(settings) if one["metadata"]["name"] == frame.WATCHER]
    try:
        written = apply(installed, wanted)
        assert written.out.count("serverside-applied") == len(wanted) == 9
        for one in wanted:
            space = ["-n", frame.NAMESPACE] if "namespace" in one["metadata"] else []
            assert held(one, installed.get(one["kind"], frame.WATCHER, *space)) == []
    finally:
        apply(installed, platform.objects(frame.Settings()))
    defaults = platform.objects(frame.Settings())
    others = [one["kind"] for one in platform.objects(settings) if one not in defaults]
    assert others == ([] if way == "nodeclaim" else ["ClusterRole"])


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_the_server_adds_no_field_to_the_webhooks(installed: Kubectl, kind: str) -> None:
    """Every default is written out, so no tool ever shows a difference."""
    wanted = next(one for one in platform.objects(frame.Settings()) if one["kind"].lower() == kind)
    found = installed.get(kind, frame.WEBHOOK)
    assert found["webhooks"] == wanted["webhooks"]


def test_applying_again_changes_nothing(installed: Kubectl) -> None:
    text = platform.stream(frame.Settings())
    assert (
        installed("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=text, check=False).code == 0
    )


def test_a_workspace_waits_for_the_webhook_and_can_still_be_deleted(installed: Kubectl) -> None:
    """Nobody answers here: what must be checked is refused, and what must not be is not."""
    refused = installed("create", "-f", "-", stdin=WORKSPACE, check=False)
    assert 'failed calling webhook "workspaces.berth.dev"' in refused.err
    pod = installed("create", "--dry-run=server", "-f", "-", stdin=POD, check=False)
    assert pod.code == 0, pod.err


WORKSPACE = """
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: waiting, namespace: default}
resource: {labelSelector: {matchLabels: {a: b}}}
inference: {preset: {name: falcon-7b}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: ours, namespace: default, labels: {kaito.sh/workspace: x}}
spec: {containers: [{name: main, image: "example.com/main:1"}]}
"""
