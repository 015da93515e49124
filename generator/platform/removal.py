"""`berth install --remove`: takes the platform out of a cluster, in the order in which nothing gets stuck.

The webhook configurations go first, since nobody would answer them later. The watcher stays until Workspaces
that are being deleted are gone with their nodes; then it stops, and its finalizers are taken off the others,
which could never be deleted without it. The CRD, its roles and every Workspace stay, and so do their pods.
"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth import labels
from berth.fleet import Fleet, Monitoring
from generator import platform
from generator.crd import NAME
from generator.kubectl import NotFound
from generator.platform import frame
from generator.reports import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from generator.kubectl import Kubectl

POLL_SECONDS = 2.0
STOP_SECONDS = 90
"""What the pods may take to end; their grace is shorter."""
_CONFIGURATIONS = ("validatingwebhookconfiguration", "mutatingwebhookconfiguration")
_CLAIMS = ("nodeclaims.karpenter.sh", "machines.karpenter.sh")
_NOBODYS = ("kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert")
"""ConfigMaps that controllers put into every namespace."""
_TOOLS = {"argocd.argoproj.io/tracking-id": "Argo CD", "kustomize.toolkit.fluxcd.io/name": "Flux"}
_LAST = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
"""What running programs still use."""


@dataclass
class Removal:
    """One removal; with `dry_run` it prints the commands and runs none that changes anything."""

    kubectl: Kubectl
    say: Callable[[str], None]
    dry_run: bool = False
    wait_s: float = 600
    namespace: str = frame.NAMESPACE

    def run(self) -> int:
        """Remove it and return the exit code: 1 where something is in the way.

        Raises:
            KubectlError: the cluster did not do what was asked; running it again goes on from there.
        """
        self.namespace = self._namespace()
        self._warn_of_gitops()
        self.say("1. the webhook configurations, so that nothing waits for an answer")
        self._do("delete", *(f"{kind}/{frame.WEBHOOK}" for kind in _CONFIGURATIONS), "--ignore-not-found")
        self.say("2. Workspaces that are being deleted: their nodes go first")
        if stuck := self._wait_for_deletions():
            names = ", ".join(stuck[:5])
            self.say(f"still being deleted: {names}. The watcher stays; its log says what it waits for.")
            self.say("Run this again later, or with --wait 0, which leaves their nodes for you to delete.")
            return 1
        self.say("3. the watcher, and its finalizers")
        self._stop_watcher()
        self._take_finalizers()
        self.say("4. everything else of the platform")
        programs, accounts = self._rest()
        self._do("delete", *programs, "--namespace", self.namespace, "--ignore-not-found")
        # Its last words, that it is gone, need its account.
        self._until_ended(frame.WEBHOOK)
        self._do("delete", *accounts, "--namespace", self.namespace, "--ignore-not-found")
        self._namespace_if_empty()
        self._tell_what_stays()
        return 0

    def _do(self, *arguments: str, wait_s: float = 60) -> None:
        self.say(f"   {shlex.join(['kubectl', *arguments])}")
        if not self.dry_run:
            self.kubectl(*arguments, wait_s=wait_s)

    def _namespace(self) -> str:
        """Where the platform is, which a chart lets people choose."""
        path = "{.webhooks[0].clientConfig.service.namespace}"
        asked = ("get", _CONFIGURATIONS[0], frame.WEBHOOK, "--output", f"jsonpath={path}")
        try:
            return self.kubectl(*asked) or self.namespace
        except NotFound:
            return self.namespace

    def _warn_of_gitops(self) -> None:
        try:
            found = self.kubectl.json("get", "deployment", frame.WEBHOOK, "--namespace", self.namespace)
        except NotFound:
            return
        metadata = found["metadata"]
        marks = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}
        for mark, tool in _TOOLS.items():
            if mark in marks:
                self.say(
                    f"{tool} applied this platform ({marks[mark]}): take it out of git too, or it comes back"
                )

    def _workspaces(self) -> list[Any]:
        return self._served() or []

    def _served(self) -> list[Any] | None:
        """Every Workspace; None where the cluster does not know the kind."""
        try:
            return self.kubectl.items(NAME, "--all-namespaces")
        except NotFound:
            return None

    def _wait_for_deletions(self) -> list[str]:
        end = time.monotonic() + self.wait_s
        told: list[str] = []
        while True:
            ours = (one for one in self._workspaces() if labels.FINALIZER in _finalizers(one))
            going = [_shown(one) for one in ours if one["metadata"].get("deletionTimestamp")]
            if not going or self.wait_s == 0:
                return []
            if going != told:
                self.say(f"   waiting for {', '.join(going[:5])}")
                told = going
            if time.monotonic() > end or self.dry_run:
                return [] if self.dry_run else going
            time.sleep(POLL_SECONDS)

    def _stop_watcher(self) -> None:
        own = ("--namespace", self.namespace)
        try:
            self.kubectl("get", "deployment", frame.WATCHER, *own)
        except NotFound:
            return
        self._do("scale", "deployment", frame.WATCHER, "--replicas=0", *own)
        self._until_ended(frame.WATCHER)

    def _until_ended(self, component: str) -> None:
        pods = ("pods", f"--selector={labels.NAME}={component}", "--namespace", self.namespace)
        self._do("wait", *pods, "--for=delete", f"--timeout={STOP_SECONDS}s", wait_s=STOP_SECONDS)

    def _take_finalizers(self) -> None:
        for one in self._workspaces():
            metadata = one["metadata"]
            kept = [name for name in _finalizers(one) if name != labels.FINALIZER]
            if kept == _finalizers(one):
                continue
            # The version keeps a finalizer that somebody else sets at this moment.
            change = {"metadata": {"finalizers": kept, "resourceVersion": metadata["resourceVersion"]}}
            where = ("--namespace", metadata["namespace"], "--type=merge")
            self._do("patch", NAME, metadata["name"], *where, f"--patch={json.dumps(change)}")

    def _rest(self) -> tuple[list[str], list[str]]:
        """Return what to delete, and then what running programs still use; the namespace aside."""
        served = set(self.kubectl("api-resources", "--output=name", "--verbs=delete").split())
        found: dict[str, bool] = {}
        for thing in _everything():
            resource = _resource(thing)
            if resource in served:
                found[f"{resource}/{thing['metadata']['name']}"] = thing["kind"] in _LAST
        first = [name for name, last in found.items() if not last]
        kept = [f"secrets/{frame.CERTIFICATES}"]
        leases = [f"leases.coordination.k8s.io/{name}" for name in (frame.WATCHER, frame.WEBHOOK)]
        return first, [*(name for name, last in found.items() if last), *kept, *leases]

    def _namespace_if_empty(self) -> None:
        others = [] if self.dry_run else self._others()
        if others:
            self.say(f"   namespace {self.namespace} stays, since it holds more: {', '.join(others[:5])}")
            return
        if self.dry_run:
            self.say("   and, unless it holds anything else:")
        self._do("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")

    def _others(self) -> list[str]:
        kinds = "deployments,statefulsets,daemonsets,jobs,services,configmaps,secrets,persistentvolumeclaims"
        found = self.kubectl.items(kinds, "--namespace", self.namespace)
        names = [(one["kind"], one["metadata"]["name"]) for one in found]
        return [f"{kind} {name}" for kind, name in names if name not in _NOBODYS]

    def _tell_what_stays(self) -> None:
        workspaces = self._served()
        if workspaces is None:
            self.say(f"Nothing stays: the CRD {NAME} is not in this cluster.")
            return
        amount = counted(len(workspaces), "Workspace", "Workspaces")
        self.say(f"What stays: the CRD {NAME} with its roles, {amount}, and the pods that serve them.")
        for kind in _CLAIMS:
            try:
                claims = self.kubectl.items(kind, "--all-namespaces", f"--selector={labels.WORKSPACE_UID}")
            except NotFound:
                continue
            if claims:
                nodes = counted(len(claims), "node", "nodes")
                self.say(f"{nodes} made for them cost on, and nobody deletes them now:")
                self.say(f"   kubectl delete {kind} --selector {labels.WORKSPACE_UID}")
        if workspaces:
            self.say(f"To remove the Workspaces too: kubectl delete {NAME} --all --all-namespaces")


def _everything() -> Iterator[Any]:
    """Everything that any fleet's platform may hold, but what has to stay or goes first."""
    fleet = Fleet(monitoring=Monitoring(pod_monitor=True))
    for certificates in ("own", "cert-manager"):
        chosen: frame.Certificates = "own" if certificates == "own" else "cert-manager"
        parts = platform.parts(frame.Settings(fleet, certificates=chosen))
        for folder, things in parts.items():
            if folder not in (platform.CRDS, "admission"):
                yield from (thing for thing in things if thing["kind"] != "Namespace")


def _resource(thing: Any) -> str:
    """The resource as kubectl names it, with its group."""
    group, _, _ = thing["apiVersion"].rpartition("/")
    kind = thing["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("cy") else f"{kind}es" if kind.endswith("ss") else f"{kind}s"
    return f"{plural}.{group}" if group else plural


def _finalizers(workspace: Any) -> list[str]:
    return list(workspace["metadata"].get("finalizers") or ())


def _shown(workspace: Any) -> str:
    return f"{workspace['metadata']['namespace']}/{workspace['metadata']['name']}"
