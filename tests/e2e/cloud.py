"""A cloud's node provisioner, played on the cluster's one real node.

It takes a NodeClaim as Karpenter's controllers do: a finalizer, Launched, then a node with the claim's labels
and taints, Registered, its GPUs announced, Initialized and Ready; on deletion the node is emptied and given
back before the finalizer goes. The machine behind it is the node that is there, so only one claim at a
time has it, and the others wait as for a cloud without capacity.
"""

from __future__ import annotations

import datetime
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from tests.e2e import clusters

if TYPE_CHECKING:
    from tests.e2e.clusters import Cluster

TERMINATION = "karpenter.sh/termination"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_PAUSE_SECONDS = 0.5


class Cloud:
    """Plays until it is left; `faults` tells what went wrong while playing."""

    def __init__(self, cluster: Cluster, gpus: dict[str, int]) -> None:
        self.cluster, self.gpus = cluster, gpus
        self.faults: list[str] = []
        self.made: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._play, name="cloud")

    def __enter__(self) -> Cloud:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def claims(self) -> list[dict[str, Any]]:
        return list(self.cluster.get("nodeclaims.karpenter.sh")["items"])

    def _play(self) -> None:
        while not self._over.wait(_PAUSE_SECONDS):
            try:
                for claim in self.claims():
                    self._step(claim)
            except BaseException as error:
                # Told by the test at its end; the provisioner itself tries again.
                self.faults.append(f"{type(error).__name__}: {error}")

    def _step(self, claim: dict[str, Any]) -> None:
        metadata = claim["metadata"]
        if "deletionTimestamp" in metadata:
            if TERMINATION in metadata.get("finalizers", []):
                self._give_back(claim)
        elif TERMINATION not in metadata.get("finalizers", []):
            held = [*metadata.get("finalizers", []), TERMINATION]
            self._patch(claim, {"metadata": {"finalizers": held}})
        elif not claim.get("status", {}).get("nodeName") and self._free():
            self._launch(claim)

    def _free(self) -> bool:
        return not any(claim.get("status", {}).get("nodeName") for claim in self.claims())

    def _launch(self, claim: dict[str, Any]) -> None:
        instance_type = next(
            one["values"][0] for one in claim["spec"]["requirements"] if one["key"] == INSTANCE_TYPE
        )
        self.made.append(claim["metadata"]["name"])
        self._status(claim, ("Launched",), providerID=f"lab:///{claim['metadata']['name']}")
        labels = {**claim["metadata"]["labels"], INSTANCE_TYPE: instance_type}
        self.cluster.kubectl("patch", "node", clusters.NODE, "--type=merge", "--patch", json.dumps(
            {"metadata": {"labels": labels}, "spec": {"taints": claim["spec"].get("taints", [])}}
        ))  # fmt: skip
        self._status(claim, ("Launched", "Registered"), nodeName=clusters.NODE)
        count = self.gpus[instance_type]
        self.cluster.gpus(count)
        capacity = {"nvidia.com/gpu": str(count)}
        everything = ("Launched", "Registered", "Initialized", "Ready")
        self._status(claim, everything, capacity=capacity, allocatable=capacity)

    def _give_back(self, claim: dict[str, Any]) -> None:
        if claim.get("status", {}).get("nodeName"):
            self._empty(claim["metadata"]["labels"])
            gone = dict.fromkeys([*claim["metadata"]["labels"], INSTANCE_TYPE])
            self.cluster.kubectl("patch", "node", clusters.NODE, "--type=merge", "--patch", json.dumps(
                {"metadata": {"labels": gone}, "spec": {"taints": None}}
            ))  # fmt: skip
            self.cluster.gpus(0)
        left = [one for one in claim["metadata"]["finalizers"] if one != TERMINATION]
        self._patch(claim, {"metadata": {"finalizers": left or None}})

    def _empty(self, labels: dict[str, str]) -> None:
        """Take the GPU pods away, as a drain does; the platform's own pods live on the same node here."""
        pods = self.cluster.get("pods", "--all-namespaces")["items"]
        for pod in pods:
            limits = [one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"]]
            if any("nvidia.com/gpu" in one for one in limits):
                name, space = pod["metadata"]["name"], pod["metadata"]["namespace"]
                self.cluster.kubectl(
                    "delete", "pod", name, "-n", space, "--wait=false", "--ignore-not-found", check=False
                )

    def _status(self, claim: dict[str, Any], true: tuple[str, ...], **fields: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {
                "type": name,
                "status": "True" if name in true else "Unknown",
                "reason": name if name in true else "AwaitingReconciliation",
                "message": "",
                "lastTransitionTime": now,
            }
            for name in ("Launched", "Registered", "Initialized", "Ready")
        ]
        self._patch(claim, {"status": {"conditions": conditions, **fields}}, "--subresource=status")
        time.sleep(_PAUSE_SECONDS)

    def _patch(self, claim: dict[str, Any], patch: dict[str, Any], *how: str) -> None:
        name = claim["metadata"]["name"]
        self.cluster.kubectl(
            "patch", "nodeclaims.karpenter.sh", name, "--type=merge", "--patch", json.dumps(patch), *how
        )
