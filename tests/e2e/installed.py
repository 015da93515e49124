"""What is installed into a cluster where pods run: berth's own platform, and controllers of other projects.

A controller comes from the file of its release (`manifests.yaml`), named by an environment variable; where
an image that it names is on this machine, the node gets it from here, and else pulls it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.e2e import clusters
from tests.e2e.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.clusters import Cluster

PLATFORM = "berth-system"


@contextlib.contextmanager
def platform(cluster: Cluster, folder: Path, fleet: dict[str, Any], *options: str) -> Iterator[None]:
    """The platform that `berth install` makes of a fleet file, running from its images."""
    (folder / "berth.yaml").write_text(yaml.safe_dump(fleet))
    berth = ROOT / ".venv" / "bin" / "berth"
    rendered = cluster(berth, "install", "--fleet", folder / "berth.yaml", "--out", "-", *options)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=rendered)
    try:
        for program in clusters.PROGRAM_IMAGES:
            _wait_for(cluster, f"berth-{program}", PLATFORM)
        yield
    finally:
        for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
            cluster.kubectl("delete", kind, "berth-webhook", "--ignore-not-found")
        cluster.kubectl("delete", "namespace", PLATFORM, "--timeout=110s", check=False)


@contextlib.contextmanager
def controller(cluster: Cluster, variable: str, what: str, namespace: str) -> Iterator[None]:
    """Another project's controller in a namespace of its own, from the file that the variable names."""
    named = os.environ.get(variable)
    if not named:
        clusters.skip(f"no {what}: name the file of its release (manifests.yaml) in {variable}")
    file = Path(str(named))
    objects = [one for one in yaml.safe_load_all(file.read_text()) if one]
    deployments = [one for one in objects if one["kind"] == "Deployment"]
    images = {
        container["image"]
        for one in deployments
        for container in one["spec"]["template"]["spec"]["containers"]
    }
    cluster.give(*filter(clusters.built, sorted(images)))
    cluster.kubectl("create", "namespace", namespace, check=False)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", file)
    try:
        for one in deployments:
            _wait_for(cluster, one["metadata"]["name"], namespace)
        yield
    finally:
        cluster.kubectl(
            "delete", "-n", namespace, "--ignore-not-found", "--wait=false", "-f", file, check=False
        )
        cluster.kubectl("delete", "namespace", namespace, "--timeout=110s", check=False)


def _wait_for(cluster: Cluster, deployment: str, namespace: str) -> None:
    done = cluster.kubectl(
        "rollout", "status", f"deployment/{deployment}", "-n", namespace, "--timeout=110s", check=False
    )
    cluster.wait(lambda: "successfully rolled out" in done, f"{deployment} runs", namespace, 0)
