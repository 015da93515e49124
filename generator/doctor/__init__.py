"""`berth doctor`: looks at a repository and a cluster, and names the fix of everything that it finds.

Looking and judging are apart: `facts` asks the cluster through kubectl and judges nothing, `cluster` and
`nodes` judge and ask nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from generator import specs
from generator.doctor import cluster as clusters
from generator.doctor import facts, nodes
from generator.doctor import repository as repositories
from generator.doctor.findings import unknown
from generator.kubectl import KubectlError
from generator.study import study

if TYPE_CHECKING:
    from pathlib import Path

    from berth.fleet import Fleet
    from generator.doctor.findings import Finding
    from generator.kubectl import Kubectl


def look(
    root: Path, kubectl: Kubectl, *, repository: bool = True, cluster: bool | None = None
) -> list[Finding]:
    """Return what there is to say; `cluster` None means: if kubectl has one.

    Raises:
        BerthError: the repository, or a cluster that was asked for, can't be looked at.
    """
    found = list(repositories.judge(root)) if repository else []
    if cluster is False:
        return found
    try:
        answers = facts.gather(kubectl, fleet := _fleet(root))
    except KubectlError as problem:
        if cluster:
            raise
        why = f"it was not looked at: {problem}"
        return [*found, unknown(clusters.AREA, "cluster", why, "`--no-cluster` leaves it out")]
    now = datetime.now(UTC)
    return [*found, *clusters.judge(answers, fleet, now), *nodes.judge(answers, fleet)]


def _fleet(root: Path) -> Fleet:
    place = specs.find_fleet(str(root))
    return study([], place).fleet
