"""A small cluster around one Workspace: truth, the watcher's view of it, and everybody who acts on it.

The view is behind by what the watches have not delivered; what the watcher wrote itself is in it at once. A
new process lists everything, so it begins with the truth. The invariants are checked at every single write.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from berth import labels
from berth.fleet import Fleet
from kube import times
from kube.objects import mapping, metadata
from tests.watcher import worlds
from watcher import observed, plans, rails
from watcher.provisioners import WAYS
from watcher.reconcile import decide
from watcher.scene import Scene
from watcher.world import (
    AddFinalizer,
    Amount,
    Create,
    Delete,
    Limits,
    PatchStatus,
    Price,
    Rails,
    RemoveFinalizer,
    Snapshot,
    Usage,
)

Object = dict[str, Any]


def fits(scene: Scene, claim: observed.Claim) -> bool:
    """Whether the plan would make this claim today."""
    claims = WAYS[scene.reading.provisioning].claims
    return claims is not None and claims.fits(scene, claim)


@cache
def _rendered(count: int, types: tuple[str, ...], way: str) -> tuple[Object, str]:
    made = worlds.workspace(
        count, instance_type=types[0], fallback_instance_types=types[1:], provisioning=way
    )
    plan = plans.read(made).plan
    assert plan is not None
    return made, plan.server_digest


@dataclass
class State:
    """Objects by name; a Workspace that is gone is None."""

    workspace: Object | None
    claims: dict[str, Object] = field(default_factory=dict)
    nodes: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    deployment: Object | None = None


class Cluster:
    """Truth and view, with a clock."""

    def __init__(self, count: int, types: tuple[str, ...], limit: int | None = None) -> None:
        self.now = worlds.NOW
        self.types = types
        self.rails = Rails(
            cluster=Limits(nodes=limit),
            prices={name: Price(1, 0.5) for name in (worlds.TYPE, worlds.SPARE, "Standard_NC6s_v3")},
        )
        self.capacity = True
        self.numbers = itertools.count(1)
        self.truth = State(None)
        self.view = State(None)
        self.wanted = count
        self.render(count, types)
        self.fresh()

    # The user and GitOps.

    def render(self, count: int, types: tuple[str, ...], way: str = "nodeclaim") -> None:
        """Git changes: spec and plan together, then the Deployment."""
        self.wanted, self.types, self.way = count, types, way
        made, server_digest = _rendered(count, types, way)
        self._edit(copy.deepcopy(made))
        tags = {labels.SERVER_DIGEST: server_digest}
        self.truth.deployment = {
            "kind": "Deployment",
            "metadata": {"name": "assistant", "generation": 1, "annotations": tags},
            "spec": {"replicas": count},
            "status": {"observedGeneration": 1},
        }
        self.run_pods()

    def edit_spec_alone(self, count: int) -> None:
        """Somebody edits the live object: the plan is stale."""
        if self.truth.workspace is not None:
            made = copy.deepcopy(self.truth.workspace)
            made["resource"]["count"] = count
            self._edit(made)

    def pause(self, on: bool) -> None:
        """Set or remove the annotation."""
        if self.truth.workspace is not None:
            made = copy.deepcopy(self.truth.workspace)
            notes = made["metadata"]["annotations"]
            notes.pop(labels.PAUSED, None)
            self._edit({**made, "metadata": {**made["metadata"], "annotations": {
                **notes, **({labels.PAUSED: "true"} if on else {})}}})  # fmt: skip

    def delete_workspace(self) -> None:
        """`kubectl delete workspace`: it stays while there are finalizers."""
        if self.truth.workspace is not None:
            self.truth.workspace["metadata"]["deletionTimestamp"] = self._time()
            self._bump()
            self._collect()

    # The provisioner, the kubelets and the Deployment's controller.

    def step_claim(self, name: str) -> None:
        """A provisioner takes a claim one step on, or ends what is being deleted."""
        claim = self.truth.claims.get(name)
        if claim is None:
            return
        if metadata(claim).get("deletionTimestamp"):
            self.end_claim(name)
            return
        stage = observed.claim(claim, worlds.UID).stage
        listed = [
            one for one in mapping(claim.get("status")).get("conditions", []) if one["status"] == "True"
        ]
        if stage == 0 and not self.capacity:
            self.fail_claim(name, "InsufficientCapacity", "none left")
            return
        steps = ("Launched", "Registered", "Initialized")
        if stage == 1:
            node = worlds.node(
                f"node-of-{name}", instance_type=observed.claim(claim, worlds.UID).instance_type
            )
            node["metadata"]["labels"] |= claim["metadata"]["labels"]
            self.truth.nodes[node["metadata"]["name"]] = node
            claim.setdefault("status", {})["nodeName"] = node["metadata"]["name"]
        if stage < 3:
            prefix = "Machine" if claim["kind"] == "Machine" else ""
            claim.setdefault("status", {})["conditions"] = [*listed, worlds.condition(prefix + steps[stage])]
        self.run_pods()

    def fail_claim(self, name: str, reason: str, message: str) -> None:
        """The cloud says no; the condition stays on the claim."""
        claim = self.truth.claims.get(name)
        if claim is not None and observed.claim(claim, worlds.UID).stage == 0:
            kind = "MachineLaunched" if claim["kind"] == "Machine" else "Launched"
            claim["status"] = {"conditions": [worlds.condition(kind, "False", reason, message)]}

    def take_claim(self, name: str) -> None:
        """Karpenter, a spot interruption or a person deletes a claim."""
        if name in self.truth.claims:
            self.truth.claims[name]["metadata"].setdefault("deletionTimestamp", self._time())
            self.run_pods()

    def end_claim(self, name: str) -> None:
        """A deleted claim is gone, and its node with it."""
        claim = self.truth.claims.get(name)
        if claim is not None and metadata(claim).get("deletionTimestamp"):
            del self.truth.claims[name]
            self.truth.nodes.pop(str(mapping(claim.get("status")).get("nodeName")), None)
            self.run_pods()

    def lose_node(self, name: str) -> None:
        """A node vanishes under its claim; Karpenter ends the claim after that."""
        claim = self.truth.claims.get(name)
        if claim is not None and mapping(claim.get("status")).get("nodeName") in self.truth.nodes:
            del self.truth.nodes[claim["status"]["nodeName"]]
            self.take_claim(name)

    def run_pods(self) -> None:
        """Pods leave nodes that go, and are placed on ready nodes of the planned types, one for each."""
        deployment = self.truth.deployment
        if deployment is None:
            return
        alive = {
            claim["status"]["nodeName"] for claim in self.truth.claims.values()
            if not metadata(claim).get("deletionTimestamp") and "nodeName" in mapping(claim.get("status"))
            and observed.claim(claim, worlds.UID).stage == 3
        }  # fmt: skip
        free = [
            name for name, node in sorted(self.truth.nodes.items())
            if name in alive and node["metadata"]["labels"][labels.INSTANCE_TYPE] in self.types
        ]  # fmt: skip
        wanted = deployment["spec"]["replicas"]
        kept = {
            name: pod for name, pod in sorted(self.truth.pods.items())
            if mapping(pod["spec"]).get("nodeName") in free
        }  # fmt: skip
        kept = dict(list(kept.items())[:wanted])
        used = {pod["spec"]["nodeName"] for pod in kept.values()}
        for number in range(wanted):
            name = f"pod-{number}"
            if name not in kept and len(kept) < wanted:
                place = next((one for one in free if one not in used), "")
                used.add(place)
                kept[name] = worlds.pod(name, place, ready=bool(place))
        self.truth.pods = kept
        ready = sum(bool(mapping(pod["spec"]).get("nodeName")) for pod in kept.values())
        deployment["status"] |= {"replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready}

    # The watcher.

    def fresh(self) -> None:
        """A new process lists everything; also what all watches together would deliver."""
        self.view = copy.deepcopy(self.truth)

    def deliver(self, what: str) -> None:
        """One watch delivers; the others are still behind."""
        setattr(self.view, what, copy.deepcopy(getattr(self.truth, what)))

    def one_pass(self, stop_at: int | None = None, *, lands: bool = True) -> int:
        """Run one pass; the write number `stop_at` fails, with or without having been done.

        Returns how many writes it wanted.
        """
        if self.view.workspace is None:
            return 0
        snapshot = self.snapshot()
        decision = decide(snapshot, Fleet(), self.rails, self.now)
        writes = [action for action in decision.actions if type(action).__name__ != "Tell"]
        for number, action in enumerate(writes):
            if number == stop_at and not lands:
                self._reserve(action)
                break
            if not self._write(snapshot, action):
                break
            if number == stop_at:
                break
        return len(writes)

    def snapshot(self) -> Snapshot:
        """All that the watcher sees; on deletion the claims are read live."""
        view = self.view
        assert view.workspace is not None
        live = "deletionTimestamp" in metadata(view.workspace)
        claims = self.truth.claims if live else view.claims
        counted = [rails.amount(claim, self.rails) for claim in view.claims.values()]
        total = sum(counted, Amount())
        return Snapshot(
            workspace=view.workspace,
            claims=tuple(claims.values()),
            nodes=tuple(view.nodes.values()),
            pods=tuple(view.pods.values()),
            workloads=(view.deployment,) if view.deployment is not None else (),
            served=worlds.SERVED,
            usage=Usage(total, total),
            live=live,
        )

    def _write(self, snapshot: Snapshot, action: Any) -> bool:
        """Do one write, check it, and show it in the view; False where the API server refuses it."""
        if isinstance(action, Create):
            return self._create(snapshot, action)
        if isinstance(action, Delete):
            self._delete(snapshot, action)
            return True
        truth, view = self.truth.workspace, self.view.workspace
        if truth is None or view is None:
            self.view.workspace = None
            return False
        if truth["metadata"]["resourceVersion"] != view["metadata"]["resourceVersion"]:
            self.deliver("workspace")  # a conflict: the next pass begins with what is there
            return False
        if isinstance(action, PatchStatus):
            status = {**truth.get("status", {}), **action.status}
            truth["status"] = {key: value for key, value in status.items() if value is not None}
        finalizers = [one for one in metadata(truth).get("finalizers", []) if one != labels.FINALIZER]
        if isinstance(action, AddFinalizer):
            if metadata(truth).get("deletionTimestamp"):
                return False
            truth["metadata"]["finalizers"] = [*finalizers, labels.FINALIZER]
        if isinstance(action, RemoveFinalizer):
            truth["metadata"]["finalizers"] = finalizers
        self._bump()
        self._collect()
        self.deliver("workspace")
        return True

    def _create(self, snapshot: Snapshot, action: Create) -> bool:
        name = action.body["metadata"]["name"]
        truth = self.truth.workspace
        assert truth is None or labels.FINALIZER in metadata(truth)["finalizers"], (
            "a claim without a finalizer"
        )
        if name in self.truth.claims:
            seen = self.view.claims.get(name, {})
            assert not metadata(seen).get("deletionTimestamp"), f"{name} was seen to be going"
        else:
            scene = Scene(snapshot, Fleet(), self.now)
            alive = [one for one in map(self._read, self.truth.claims.values()) if not one.terminating]
            fitting = [one for one in alive if fits(scene, one)]
            assert len(fitting) < scene.count, f"{name} doubles one of {[one.name for one in fitting]}"
            new = self._read(action.body)
            assert new.index not in {one.index for one in alive}, f"{name} has a living claim's index"
            made = copy.deepcopy(action.body)
            made["metadata"] |= {"uid": f"uid-{next(self.numbers)}", "creationTimestamp": self._time()}
            self.truth.claims[name] = made
            limit = self.rails.cluster.nodes
            assert limit is None or len(self.truth.claims) <= limit, "more nodes than the limit"
        self.view.claims[name] = copy.deepcopy(self.truth.claims[name])
        return True

    def _delete(self, snapshot: Snapshot, action: Delete) -> None:
        """Check that what the watcher saw did not need the claim, and delete it if the uid is right."""
        scene = Scene(snapshot, Fleet(), self.now)
        if not scene.deleting:
            (gone,) = [one for one in scene.claims if one.name == action.name]
            left = [
                one for one in scene.claims
                if one.name != gone.name and not one.terminating and fits(scene, one)
            ]  # fmt: skip
            given_up = gone.failure is not None and gone.failure.elsewhere
            needed = fits(scene, gone) and not given_up and len(left) < scene.count
            assert not needed, f"{gone.name} was needed: {[one.name for one in left]} of {scene.count}"
            assert not scene.paused, "deleted in a pause"
        known = self.truth.claims.get(action.name)
        if known is not None and known["metadata"]["uid"] == action.uid:
            self.take_claim(action.name)
            self.view.claims[action.name] = copy.deepcopy(known)
        else:
            self.view.claims.pop(action.name, None)

    def _reserve(self, action: Any) -> None:
        """A create without an answer counts until a watch says otherwise; here it did not arrive."""
        if isinstance(action, Create):
            self.view.claims.pop(action.body["metadata"]["name"], None)

    def _read(self, claim: Object) -> observed.Claim:
        return observed.claim(claim, worlds.UID)

    def _edit(self, made: Object) -> None:
        old = self.truth.workspace
        if old is not None:
            kept = ("finalizers", "deletionTimestamp")
            made["metadata"] |= {key: old["metadata"][key] for key in kept if key in old["metadata"]}
            if "status" in old:
                made["status"] = old["status"]
            self.truth.workspace = made
        elif self.view.workspace is None and not self.truth.claims:
            self.truth.workspace = made
        self._bump()

    def _bump(self) -> None:
        if self.truth.workspace is not None:
            self.truth.workspace["metadata"]["resourceVersion"] = str(next(self.numbers))

    def _collect(self) -> None:
        """The API server removes what is deleted and has no finalizer; nothing of ours may be left then."""
        found = self.truth.workspace
        if found is None:
            return
        if metadata(found).get("deletionTimestamp") and not metadata(found).get("finalizers"):
            left = [
                name for name, one in self.truth.claims.items() if not metadata(one).get("deletionTimestamp")
            ]
            assert not left, f"{left} are leaked"
            self.truth.workspace = None

    def _time(self) -> str:
        return times.seconds(self.now)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now = self.now + timedelta(seconds=seconds)
