"""Conditions as Kubernetes' conventions want them: a transition time moves only when the status does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kube import times
from kube.objects import mappings
from watcher.reasons import Condition

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from watcher.reasons import Reason
    from watcher.world import Object

LONGEST = 1024
"""Characters of a message; it is a sentence."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one condition says now."""

    holds: bool
    reason: Reason
    message: str = ""


def written(
    before: Mapping[str, Any], said: Mapping[Condition, Said], generation: int, now: datetime
) -> list[Object]:
    """Return the list of conditions for a status that was `before`; what is said no longer is left out."""
    old = {str(one.get("type")): one for one in mappings(before.get("conditions"))}
    found = []
    for kind in (kind for kind in Condition if kind in said):
        one = said[kind]
        status = "True" if one.holds else "False"
        last = old.get(str(kind), {})
        same = last.get("status") == status and last.get("lastTransitionTime")
        found.append(
            {
                "type": str(kind),
                "status": status,
                "reason": str(one.reason),
                "message": one.message[:LONGEST],
                "lastTransitionTime": last["lastTransitionTime"] if same else times.seconds(now),
                "observedGeneration": generation,
            }
        )
    return found
