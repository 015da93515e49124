"""What the pods say: how many replicas answer, and in one sentence why the others do not.

Deployments and StatefulSets are asked; where there are only pods, some other controller made them, such as
that of LeaderWorkerSets, and the leaders among the pods are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth import labels
from kube.objects import labels_of, mapping, mappings, metadata, notes_of
from watcher import failures, observed
from watcher.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from watcher.scene import Scene
    from watcher.world import Object

_NO_PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NO_START = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_WEIGHTS = "weights"
"""Init containers of this name, or beginning with it, bring the weights."""
_ORDER = (
    Reason.IMAGE_PULL_ERROR,
    Reason.CONTAINER_START_ERROR,
    Reason.CONTAINER_OOM_KILLED,
    Reason.CONTAINER_CRASH_LOOP,
    Reason.PODS_REFUSED,
    Reason.UNSCHEDULABLE,
    Reason.POD_EVICTED,
)
"""The worst first: what no waiting mends."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not answer."""

    reason: Reason
    message: str


def ready_replicas(scene: Scene) -> int:
    """Return how many replicas answer with the planned settings; a group answers by its leader."""
    if not scene.snapshot.workloads:
        return sum(_role(pod) == "leader" and _is_ready(pod) and of_plan(scene, pod) for pod in _alive(scene))
    return sum(
        min(_count(one, "readyReplicas"), _updated(one))
        for one in scene.snapshot.workloads
        if _role(one) != "worker" and of_plan(scene, one) and _observed(one)
    )


def of_plan(scene: Scene, thing: Object) -> bool:
    """Say whether a workload or a pod has the plan's settings; a template of the user's own always does."""
    plan = scene.reading.plan
    if plan is None or plan.server is None:
        return True
    return notes_of(thing).get(labels.SERVER_DIGEST) == plan.server_digest


def settled(scene: Scene) -> bool:
    """Say whether every workload has all its pods, new and ready: then one may be moved."""
    if not scene.snapshot.workloads and scene.snapshot.pods:
        return all(_is_ready(pod) and of_plan(scene, pod) for pod in _alive(scene))
    return all(
        _observed(one)
        and _count(one, "readyReplicas") == _updated(one) == _count(one, "replicas") == _wanted(one)
        for one in scene.snapshot.workloads
    )


def excess(scene: Scene) -> bool:
    """Say whether pods that are too many have yet to go, so that it isn't known which nodes become idle."""
    pods, plan = _alive(scene), scene.reading.plan
    wanted = sum(_wanted(one) for one in scene.snapshot.workloads)
    if not scene.snapshot.workloads and plan is not None:
        wanted = plan.replicas * plan.nodes_per_replica
    return any(metadata(one).get("deletionTimestamp") for one in pods) or len(pods) > wanted


def stuck(scene: Scene) -> str | None:
    """Return what a Deployment says that made no progress in the time that it was given."""
    for one in scene.snapshot.workloads:
        progress = observed.conditions(one).get("Progressing", {})
        if progress.get("reason") == "ProgressDeadlineExceeded":
            return (
                failures.plain(progress.get("message")) or "no progress in the time that was planned for it"
            )
    return None


def trouble(scene: Scene, *, nodes_ready: bool) -> Trouble | None:
    """Return the worst that stands against the pods; without nodes a pod that waits is nothing new."""
    found = [*_refused(scene)]
    for pod in sorted(scene.snapshot.pods, key=lambda one: str(metadata(one).get("name"))):
        if not metadata(pod).get("deletionTimestamp"):
            found += _of_pod(pod, nodes_ready)
    return min(found, key=lambda one: _ORDER.index(one.reason), default=None)


def loading(scene: Scene) -> str | None:
    """Say what the first pod that has not started yet is doing."""
    for pod in sorted(scene.snapshot.pods, key=lambda one: str(metadata(one).get("name"))):
        for status in mappings(mapping(pod.get("status")).get("initContainerStatuses")):
            if "running" in mapping(status.get("state")) and str(status.get("name", "")).startswith(_WEIGHTS):
                return f"pod {metadata(pod).get('name')} fetches its weights"
    return None


def _of_pod(pod: Object, nodes_ready: bool) -> Iterator[Trouble]:
    name, status = metadata(pod).get("name"), mapping(pod.get("status"))
    if status.get("reason") == "Evicted":
        yield Trouble(
            Reason.POD_EVICTED, f"pod {name} was evicted: {failures.plain(status.get('message')).rstrip('.')}"
        )
    scheduled = observed.conditions(pod).get("PodScheduled", {})
    if nodes_ready and scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        why = failures.plain(scheduled.get("message")).rstrip(".")
        yield Trouble(Reason.UNSCHEDULABLE, f"pod {name} fits no node: {why}")
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in mappings(status.get(group)):
            found = _of_container(str(name), container)
            if found is not None:
                yield found


def _of_container(pod: str, status: Mapping[str, Any]) -> Trouble | None:
    who = f"container {status.get('name')} of pod {pod}"
    waiting = mapping(mapping(status.get("state")).get("waiting"))
    now = mapping(mapping(status.get("state")).get("terminated"))
    last = now or mapping(mapping(status.get("lastState")).get("terminated"))
    reason, why = str(waiting.get("reason") or ""), failures.plain(waiting.get("message"))
    if reason in _NO_PULL:
        return Trouble(Reason.IMAGE_PULL_ERROR, _because(f"{who} cannot pull {status.get('image')}", why))
    if reason in _NO_START:
        return Trouble(Reason.CONTAINER_START_ERROR, _because(f"{who} cannot be started", why))
    if status.get("ready") or not last or (now and last.get("exitCode") == 0):
        return None
    if last.get("reason") == "OOMKilled":
        return Trouble(Reason.CONTAINER_OOM_KILLED, f"{who} took more host memory than it may and was killed")
    if reason == "CrashLoopBackOff" or now:
        said = failures.plain(last.get("message"))
        return Trouble(
            Reason.CONTAINER_CRASH_LOOP, _because(f"{who} stops with exit code {last.get('exitCode')}", said)
        )
    return None


def _refused(scene: Scene) -> Iterator[Trouble]:
    for one in scene.snapshot.workloads:
        failure = observed.conditions(one).get("ReplicaFailure")
        if observed.holds(failure) and failure is not None:
            what = f"{one.get('kind')} {metadata(one).get('name')} cannot make its pods"
            yield Trouble(Reason.PODS_REFUSED, _because(what, failures.plain(failure.get("message"))))


def _alive(scene: Scene) -> list[Object]:
    return [one for one in scene.snapshot.pods if not observed.ended(one)]


def _is_ready(pod: Object) -> bool:
    return observed.holds(observed.conditions(pod).get("Ready")) and not metadata(pod).get(
        "deletionTimestamp"
    )


def _because(what: str, why: str) -> str:
    return f"{what}: {why}" if why else what


def _role(thing: Object) -> str:
    return labels_of(thing).get(labels.ROLE, "")


def _wanted(workload: Object) -> int:
    given = mapping(workload.get("spec")).get("replicas")
    return given if isinstance(given, int) else 1


def _observed(workload: Object) -> bool:
    generation = metadata(workload).get("generation")
    return not isinstance(generation, int) or _count(workload, "observedGeneration") >= generation


def _updated(workload: Object) -> int:
    return _count(workload, "updatedReplicas")


def _count(workload: Object, key: str) -> int:
    value = mapping(workload.get("status")).get(key)
    return value if isinstance(value, int) else 0
