"""From judged Workspaces to the texts of their files, in one process or in several."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from berth import plans
from generator import bridge, charts, synth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.fleet import Fleet
    from berth.plans import Plan
    from berth.workspaces import Workspace
    from generator.study import Study

WORKSPACES_A_PROCESS = 400
"""Below this many, another process costs more for its own Node than it saves."""


@dataclass(frozen=True)
class Target:
    """One Workspace with its plan, and the folder that its objects go to."""

    folder: str
    plan: Plan
    workspace: Workspace
    fleet: Fleet
    inputs: str
    """Digest of everything that its objects are made from; a fleet's digest is part of the plan."""

    def objects(self) -> synth.Folder:
        """Return its objects in apply order."""
        return synth.Folder(self.folder, charts.objects(self.plan, self.workspace, self.fleet))


def targets(found: Study) -> list[Target]:
    """Return what there is to render, in the order of the folders' names."""
    made = []
    for subject in found.subjects:
        plan, workspace = subject.plan, subject.workspace
        if plan is None or workspace is None:
            continue
        folder = synth.folder_name(workspace.namespace, workspace.name)
        inputs = plans.digest({"plan": plan.to_json(), "workspace": charts.essence(workspace)})
        made.append(Target(folder, plan, workspace, found.fleet, inputs))
    return sorted(made, key=lambda target: target.folder)


def files(stale: Sequence[Target], jobs: int | None = None) -> dict[str, dict[str, str]]:
    """Return the text of every file by folder and name; nothing to do starts nothing."""
    if not stale:
        return {}
    processes = min(jobs or _processes(len(stale)), len(stale))
    forks = "fork" in multiprocessing.get_all_start_methods() and not bridge.running()
    if processes < 2 or not forks:
        return synth.render(target.objects() for target in stale)
    share = -(-len(stale) // processes)
    parts = [stale[start : start + share] for start in range(0, len(stale), share)]
    with multiprocessing.get_context("fork").Pool(len(parts)) as pool:
        return {folder: texts for part in pool.map(_part, parts) for folder, texts in part.items()}


def stream(wanted: Sequence[Target]) -> str:
    """Return everything as one text."""
    return synth.stream(target.objects() for target in wanted) if wanted else ""


def _part(part: Sequence[Target]) -> dict[str, dict[str, str]]:
    return synth.render(target.objects() for target in part)


def _processes(count: int) -> int:
    """Each process keeps Python and Node busy, that is two cores."""
    return max(1, min((os.cpu_count() or 1) // 2, count // WORKSPACES_A_PROCESS))
