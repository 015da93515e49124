"""A rendered LeaderWorkerSet against its real CRD: nothing is refused, dropped or changed.

The CRD is 1 MB of Kubernetes' own pod schema and not kept here: BERTH_LWS_CRD names the file
(`config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml` of github.com/kubernetes-sigs/lws).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.serving.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Kubectl

RENDERED = Path(__file__).parents[1] / "golden" / "leader-worker-set" / "expected" / "chat_llama-2-70b"
FILE = RENDERED / "leaderworkerset-llama-2-70b-group.yaml"


@pytest.fixture
def served(kubectl: Kubectl) -> Iterator[Kubectl]:
    crd = os.environ.get("BERTH_LWS_CRD")
    if not crd:
        pytest.skip("NOT TESTED against the CRD of LeaderWorkerSet: BERTH_LWS_CRD names no file")
    kubectl("apply", "--server-side", "-f", crd)
    wait_until(lambda: kubectl("get", "leaderworkersets", check=False).code == 0, "the kind is served", 60)
    kubectl("create", "namespace", "chat")
    yield kubectl
    kubectl("delete", "namespace", "chat", "--wait=false")
    kubectl("delete", "-f", crd, "--wait=false")


def test_what_is_rendered_reads_back_as_it_is(served: Kubectl) -> None:
    served("apply", "--validate=strict", "-f", str(FILE))
    found = served.get("leaderworkerset", "llama-2-70b-group", "-n", "chat")
    written = yaml.safe_load(FILE.read_text())
    assert missing(written["spec"], found["spec"]) == []
    assert added(written["spec"], found["spec"]) == ["rolloutStrategy.rollingUpdateConfiguration.partition"]
    assert served("diff", "-f", str(FILE), check=False).code == 0


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What the server has otherwise than it was written."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key, value in ours.items():
            found += missing(value, theirs.get(key), f"{path}.{key}".lstrip("."))
        return found
    return [] if ours == theirs or isinstance(ours, list) else [path]


def added(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What the server has beside it, outside the pods' templates."""
    found: list[str] = []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in theirs.items():
            here = f"{path}.{key}".lstrip(".")
            if key.endswith("Template") and key != "leaderWorkerTemplate":
                continue
            found += [here] if key not in ours else added(ours[key], value, here)
    return found
