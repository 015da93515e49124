"""What the doctor asks a cluster: a fixed list of questions, all of them harmless, asked side by side.

An answer is data, or the reason why there is none; nothing here judges. So a cluster can be recorded, and
what is said about it tested without one.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from berth import labels
from generator.crd import NAME
from generator.kubectl import KubectlError, NotFound
from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from berth.fleet import Fleet
    from generator.kubectl import Kubectl

AT_ONCE = 6
"""kubectl processes side by side; each is a moment of one core."""
_KAITOS = f"{labels.WORKSPACE},!{labels.WORKSPACE_UID}"


@dataclass(frozen=True)
class Absent:
    """There is no answer: what was asked for is not there (`missing`), or nobody may or can say."""

    reason: str
    missing: bool = False


@dataclass(frozen=True)
class Facts:
    """The answers, by the question's name."""

    answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """Where the platform is: a chart may stand in any namespace, and its webhooks say in which."""
        for one in self.items("validating"):
            if one["metadata"]["name"] == frame.WEBHOOK:
                services = ((hook.get("clientConfig") or {}).get("service") for hook in one["webhooks"])
                return next((str(service["namespace"]) for service in services if service), frame.NAMESPACE)
        return frame.NAMESPACE

    def data(self, name: str) -> Any:
        """Return an answer's data; None where there is none."""
        found = self.answers.get(name)
        return None if isinstance(found, Absent) else found

    def items(self, name: str) -> list[Any]:
        """Return the objects of a list, empty where there is no answer."""
        found = self.data(name)
        return list(found.get("items") or ()) if isinstance(found, dict) else []

    def missing(self, name: str) -> bool:
        """Whether the cluster said that there is no such thing."""
        found = self.answers.get(name)
        return isinstance(found, Absent) and found.missing

    def refusal(self, name: str) -> str | None:
        """Return why nobody can say, None where there is an answer."""
        found = self.answers.get(name, Absent("it was not asked"))
        return found.reason if isinstance(found, Absent) and not found.missing else None


def questions(fleet: Fleet, namespace: str = frame.NAMESPACE) -> dict[str, Callable[[Kubectl], Any]]:
    """Return what is asked, by name; `namespace` is the platform's."""
    own = ("--namespace", namespace)
    found: dict[str, Callable[[Kubectl], Any]] = {
        "version": lambda kubectl: kubectl.json("version"),
        "crd": _get("crd", NAME),
        "karpenter v1": _raw("/apis/karpenter.sh/v1"),
        "karpenter v1alpha5": _raw("/apis/karpenter.sh/v1alpha5"),
        "leader-worker sets": _raw("/apis/leaderworkerset.x-k8s.io/v1"),
        "prometheus operator": _raw("/apis/monitoring.coreos.com/v1"),
        "cert-manager": _raw("/apis/cert-manager.io/v1"),
        "validating": _get("validatingwebhookconfigurations"),
        "mutating": _get("mutatingwebhookconfigurations"),
        "deployments": _get("deployments", *own),
        "leases": _get("leases", *own),
        "endpoints": _get("endpointslices", *own),
        "fleet": _get("configmap", frame.FLEET, *own),
        "nodes": _get("nodes"),
        "daemonsets": _get("daemonsets", "--all-namespaces"),
        "workspaces": _get(NAME, "--all-namespaces"),
        "nodeclaims": _get("nodeclaims.karpenter.sh", f"--selector={labels.WORKSPACE_UID}"),
        "machines": _get("machines.karpenter.sh", "--all-namespaces", f"--selector={labels.WORKSPACE_UID}"),
        "KAITO's nodeclaims": _get("nodeclaims.karpenter.sh", f"--selector={_KAITOS}"),
        "KAITO's machines": _get("machines.karpenter.sh", "--all-namespaces", f"--selector={_KAITOS}"),
        "admission": _try_admission,
        "webhook metrics": _metrics(frame.WEBHOOK, namespace),
        "watcher metrics": _metrics(frame.WATCHER, namespace),
    }
    node_class = fleet.new_node_class
    if node_class is not None:
        found["node class"] = _get(f"{node_class.kind}.{node_class.group}", node_class.name)
    if fleet.weights.cache is not None:
        name = fleet.weights.cache.pvc
        found["volumes"] = _get("pvc", "--all-namespaces", f"--field-selector=metadata.name={name}")
    return found


def gather(kubectl: Kubectl, fleet: Fleet) -> Facts:
    """Ask everything.

    Raises:
        KubectlError: the cluster does not answer at all.
    """
    # Two answers first: a cluster that is away must not be waited for twenty times, and the second tells
    # where the platform is.
    first = questions(fleet)
    answers = {"version": first["version"](kubectl), "validating": _answer(first["validating"], kubectl)}
    asked = questions(fleet, Facts(answers).namespace)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {
            name: pool.submit(_answer, question, kubectl)
            for name, question in asked.items()
            if name not in answers
        }
        answers |= {name: future.result() for name, future in running.items()}
    return Facts(answers)


def _answer(question: Callable[[Kubectl], Any], kubectl: Kubectl) -> Any:
    try:
        return question(kubectl)
    except NotFound as problem:
        return Absent(str(problem), missing=True)
    except KubectlError as problem:
        return Absent(str(problem))


def _get(*arguments: str) -> Callable[[Kubectl], Any]:
    return lambda kubectl: kubectl.json("get", *arguments)


def _raw(path: str) -> Callable[[Kubectl], Any]:
    return lambda kubectl: json.loads(kubectl.raw(path))


def _metrics(component: str, namespace: str) -> Callable[[Kubectl], Any]:
    """One replica's, through the API server; who may not use that way is told so."""
    path = f"/api/v1/namespaces/{namespace}/services/http:{component}:http/proxy/metrics"
    return lambda kubectl: kubectl.raw(path)


def _try_admission(kubectl: Kubectl) -> Any:
    """Let the API server ask the webhook about a Workspace that is not stored."""
    return kubectl("create", "--dry-run=server", "--output=name", "--filename=-", stdin=json.dumps(_PROBE))


_PROBE = {
    "apiVersion": f"{labels.GROUP}/{labels.VERSIONS[-1]}",
    "kind": labels.KIND,
    "metadata": {"name": "berth-doctor-probe", "namespace": "default"},
    "resource": {"labelSelector": {"matchLabels": {"berth-doctor": "probe"}}},
    "inference": {"template": {"spec": {"containers": [{"name": "probe", "image": "example.com/probe:1"}]}}},
}
"""With a pod template, so that neither a preset nor a price has a say."""
