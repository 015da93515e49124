"""Why a cloud gives no node, read from what provisioners write, in the words of our reasons.

Karpenter, its forks and the gpu-provisioner pass the cloud's own text on; its codes are what can be told
apart. Words: the error codes of Azure, AWS and Google Cloud as of 2026, and the sentence with which KAITO's
first releases gave up ("all requested instance types were unavailable during launch").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watcher.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 256
"""Characters of another program's text that are passed on."""

_WORDS: tuple[tuple[Reason, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.IGNORECASE))
    for reason, pattern in (
        (Reason.QUOTA_EXCEEDED, r"quota|VcpuLimitExceeded|InstanceLimitExceeded|SpotInstanceCountExceeded"),
        (
            Reason.INSUFFICIENT_CAPACITY,
            r"insufficient\w*capacity|instance types were unavailable|AllocationFailed|SkuNotAvailable"
            r"|RESOURCE_POOL_EXHAUSTED|stockout|out of capacity|no capacity|InstanceTypesUnavailable",
        ),
        (Reason.NODE_CLASS_NOT_READY, r"node\s?class"),
    )
)
_BENIGN = frozenset({"", "AwaitingReconciliation", "Launched", "Progressing", "Pending"})
_CHANGING = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?\b",
    re.IGNORECASE,
)
"""Request ids and times, which would make every retry of the provisioner look like news."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node does not come, and in whose words."""

    reason: Reason
    message: str

    @property
    def elsewhere(self) -> bool:
        """Whether another instance type may be had, so that this claim is given up."""
        return self.reason in (Reason.INSUFFICIENT_CAPACITY, Reason.QUOTA_EXCEEDED)


def of_claim(conditions: Mapping[str, Mapping[str, Any]]) -> Failure | None:
    """Return why a claim that is not launched does not get on; None while nothing speaks against it."""
    launched = conditions.get("Launched", {})
    reason, message = str(launched.get("reason") or ""), plain(launched.get("message"))
    if launched.get("status") == "True" or reason in _BENIGN:
        return None
    if not launched or (launched.get("status") == "Unknown" and not message):
        return None
    return Failure(classified(f"{reason} {message}"), message or reason)


def classified(text: str) -> Reason:
    """Return the reason that a cloud's text stands for."""
    for reason, words in _WORDS:
        if words.search(text):
            return reason
    return Reason.LAUNCH_FAILED


def plain(text: Any) -> str:
    """Return another program's text on one line, without what differs each time, at most `LONGEST` long."""
    line = " ".join(_CHANGING.sub("…", str(text or "")).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
