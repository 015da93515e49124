"""What the Workspace's status remembers of each of its nodes: attempts and back-off outlive the watcher.

A claim's name is made from the Workspace's uid, the node's index and the attempt, so whoever asks again after
a lost answer, a restart or a stale look asks under the same name and finds what is there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kube import times
from kube.objects import items, mapping
from watcher.failures import Failure
from watcher.observed import Stage
from watcher.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from watcher.observed import Claim
    from watcher.world import Object

FIRST_DELAY_S = 30.0
LONGEST_DELAY_S = 1800.0
WAITING, FAILING = "Waiting", "Failing"
"""Phases besides those of a claim: there is none, or what stands against it was seen on this very claim."""
LIVENESS_S = 270.0
"""Karpenter gives up a claim after five minutes without a launch; one that went sooner was refused."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One node of a Workspace: which attempt it is at, and why the last one failed."""

    index: int
    attempt: int = 0
    name: str = ""
    """The claim of this attempt, from when it was seen or made."""
    instance_type: str = ""
    node: str = ""
    phase: str = WAITING
    reason: str = ""
    message: str = ""
    failures: int = 0
    retry_at: datetime | None = None
    since: datetime | None = None
    """When the claim was made."""

    def to_json(self) -> Object:
        """The entry as the status holds it, absent parts left out."""
        texts = {
            "name": self.name,
            "instanceType": self.instance_type,
            "node": self.node,
            "phase": self.phase,
            "reason": self.reason,
            "message": self.message,
        }
        moments = {"retryAt": self.retry_at, "since": self.since}
        found: Object = {"index": self.index, "attempt": self.attempt}
        found |= {key: value for key, value in texts.items() if value}
        found |= {key: times.seconds(value) for key, value in moments.items() if value is not None}
        return found | ({"failures": self.failures} if self.failures else {})

    def seen(self, claim: Claim) -> Entry:
        """The entry as its claim shows it; a node that came up has no failures behind it.

        Until then the last attempt's reason stays, for it is what people look for.
        """
        up, failure = claim.stage is Stage.READY, claim.failure
        failing = failure is not None or (
            self.phase == FAILING and self.name == claim.name and claim.stage is Stage.ASKED
        )
        return Entry(
            index=self.index,
            attempt=claim.attempt,
            name=claim.name,
            instance_type=claim.instance_type,
            node=claim.node,
            phase=FAILING if failing else claim.stage.word,
            reason="" if up else failure.reason if failure else self.reason,
            message="" if up else failure.message if failure else self.message,
            failures=0 if up else self.failures,
            since=self.since if self.since is not None and self.name == claim.name else claim.created,
        )

    def failed(self, failure: Failure, types: Sequence[str], now: datetime) -> Entry:
        """The entry after its claim came to nothing: the next attempt, and when it may be made.

        Where capacity or quota is out the next instance type follows at once; only when all of them were
        tried, and after every other failure, is there a wait, which doubles.
        """
        at = (types.index(self.instance_type) if self.instance_type in types else -1) + 1
        following = types[at % len(types)] if failure.elsewhere and types else self.instance_type
        count = self.failures + 1
        again: datetime | None = None
        if not (failure.elsewhere and 0 < at < len(types)):
            rounds = max(1, count // max(1, len(types))) if failure.elsewhere else count
            delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(rounds - 1, 30))
            again = now.replace(microsecond=0) + timedelta(seconds=delay)
        return Entry(
            index=self.index,
            attempt=self.attempt + 1,
            instance_type=following,
            phase=WAITING,
            reason=failure.reason,
            message=failure.message,
            failures=count,
            retry_at=again,
        )

    def gone(self, claim: Claim | None, types: Sequence[str], now: datetime) -> Entry:
        """The entry after somebody else deleted its claim, which may still be terminating."""
        if self.phase == Stage.READY.word:
            what = f"node {self.node} is gone" if self.node else f"{self.name} is gone"
            lost = self.failed(Failure(Reason.NODE_LOST, what), types, now)
            return replace(lost, failures=0, retry_at=None)
        return self.failed(self._why(claim, now), types, now)

    def _why(self, claim: Claim | None, now: datetime) -> Failure:
        if claim is not None and claim.failure is not None:
            return claim.failure
        if self.phase == FAILING and self.reason:
            return Failure(Reason(self.reason), self.message)
        if self.phase in (Stage.LAUNCHED.word, Stage.REGISTERED.word):
            return Failure(
                Reason.REGISTRATION_TIMEOUT, f"{self.name} was launched and deleted before its node was ready"
            )
        if self.since is not None and (now - self.since).total_seconds() < LIVENESS_S:
            return Failure(
                Reason.INSUFFICIENT_CAPACITY,
                f"{self.name} was deleted before it was launched, as Karpenter does without capacity",
            )
        return Failure(Reason.LAUNCH_TIMEOUT, f"{self.name} was deleted because nothing was launched in time")


def read(status: Mapping[str, Any]) -> dict[int, Entry]:
    """Read the entries of a Workspace's status, by index; what cannot be read is forgotten."""
    found: dict[int, Entry] = {}
    for one in items(status.get("nodes")):
        entry = _entry(mapping(one))
        if entry is not None:
            found[entry.index] = entry
    return found


def name(uid: str, index: int, attempt: int) -> str:
    """Return a claim's name: eleven characters, since Azure makes an agent pool of that name.

    >>> name("6f0c1c2e-5b0e-4b59-9d5e-0a4f6c1f7a11", 0, 0)
    'ws92c8572d3'
    """
    return "ws" + hashlib.sha256(f"{uid}/{index}/{attempt}".encode()).hexdigest()[:9]


def _entry(data: Mapping[str, Any]) -> Entry | None:
    index, attempt = data.get("index"), data.get("attempt")
    if not isinstance(index, int) or not isinstance(attempt, int) or index < 0 or attempt < 0:
        return None
    reason, failures = str(data.get("reason") or ""), data.get("failures")
    return Entry(
        index=index,
        attempt=attempt,
        name=str(data.get("name") or ""),
        instance_type=str(data.get("instanceType") or ""),
        node=str(data.get("node") or ""),
        phase=str(data.get("phase") or WAITING),
        reason=reason if reason in set(Reason) else "",
        message=str(data.get("message") or ""),
        failures=failures if isinstance(failures, int) and failures > 0 else 0,
        retry_at=times.read(data["retryAt"]) if data.get("retryAt") else None,
        since=times.read(data["since"]) if data.get("since") else None,
    )
