"""How Argo CD and Flux bring a folder of git into a cluster, as far as an API server can tell them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.clusters import Cluster

Key = tuple[str, str, str, str]
"""API version, kind, namespace and name."""
_WAVE = "argocd.argoproj.io/sync-wave"


class Syncer:
    """Applies what stands in a folder and prunes what stood there at the sync before."""

    manager: str
    kept: tuple[str, str]
    """Annotation and the text in it that keep an object from being pruned."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self._before: dict[Key, dict[str, Any]] = {}

    def sync(self, folder: Path) -> None:
        """Apply, wave by wave, then prune."""
        objects = [self._placed(one) for one in built(self.cluster, folder)]
        self._apply(objects)
        now = {key(one): one for one in objects}
        annotation, text = self.kept
        for gone in self._before.keys() - now.keys():
            annotations = self._before[gone]["metadata"].get("annotations", {})
            if text not in annotations.get(annotation, ""):
                _, kind, space, name = gone
                self.cluster.kubectl("delete", kind, name, "-n", space, "--ignore-not-found", "--wait=false")
        self._before = now

    def _placed(self, thing: dict[str, Any]) -> dict[str, Any]:
        """Both tools put what names no namespace into the one of their own setting."""
        metadata = {"namespace": self.namespace, **thing["metadata"]}
        return {**thing, "metadata": metadata}

    def _apply(self, objects: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def _kubectl_apply(self, objects: list[dict[str, Any]], *how: str) -> None:
        if not objects:
            return
        self.cluster.kubectl(
            "apply", "--server-side", "--force-conflicts", f"--field-manager={self.manager}", *how, "-f", "-",
            stdin=yaml.safe_dump_all(objects),
        )  # fmt: skip


class ArgoCD(Syncer):
    """Server-side apply in the order of the sync waves."""

    manager = "argocd-controller"
    kept = ("argocd.argoproj.io/sync-options", "Prune=confirm")

    def _apply(self, objects: list[dict[str, Any]]) -> None:
        waves: dict[int, list[dict[str, Any]]] = {}
        for one in objects:
            waves.setdefault(int(one["metadata"].get("annotations", {}).get(_WAVE, "0")), []).append(one)
        for _, wave in sorted(waves.items()):
            self._kubectl_apply(wave)


class Flux(Syncer):
    """A dry run of everything first: one refusal, and nothing is applied."""

    manager = "kustomize-controller"
    kept = ("kustomize.toolkit.fluxcd.io/prune", "disabled")

    def _apply(self, objects: list[dict[str, Any]]) -> None:
        self._kubectl_apply(objects, "--dry-run=server")
        self._kubectl_apply(objects)


def built(cluster: Cluster, folder: Path) -> list[dict[str, Any]]:
    """Return the objects of a Kustomize folder."""
    return [one for one in yaml.safe_load_all(cluster.kubectl("kustomize", folder)) if one]


def key(thing: dict[str, Any]) -> Key:
    metadata = thing["metadata"]
    return (thing["apiVersion"], thing["kind"], metadata.get("namespace", ""), metadata["name"])
