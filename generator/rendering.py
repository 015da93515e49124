"""From judged Workspaces to the texts of their files, in one process or in several."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from generator import bridge, charts, synth, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generator.study import Study

WORKSPACES_A_PROCESS = 400
"""Below this many, another process costs more for its own Node than it saves."""


@dataclass(frozen=True)
class Target:
    """One Workspace's objects, the folder that they go to, and a digest of the files that they become."""

    chart: bridge.Chart
    inputs: str

    @property
    def folder(self) -> str:
        return self.chart.id


def targets(found: Study) -> list[Target]:
    """Return what there is to render, in the order of the folders' names."""
    made = []
    for subject in found.subjects:
        plan, workspace = subject.plan, subject.workspace
        if plan is None or workspace is None:
            continue
        folder = synth.folder_name(workspace.namespace, workspace.name)
        chart = bridge.Chart(folder, charts.objects(plan, workspace, found.fleet))
        made.append(Target(chart, _digest(chart)))
    return sorted(made, key=lambda target: target.folder)


def files(stale: Sequence[Target], jobs: int | None = None) -> dict[str, dict[str, str]]:
    """Return the text of every file by folder and name; nothing to do starts nothing."""
    if not stale:
        return {}
    folders = [target.chart for target in stale]
    processes = min(jobs or _processes(len(folders)), len(folders))
    forks = "fork" in multiprocessing.get_all_start_methods() and not bridge.running()
    if processes < 2 or not forks:
        return synth.render(folders)
    share = -(-len(folders) // processes)
    parts = [folders[start : start + share] for start in range(0, len(folders), share)]
    with multiprocessing.get_context("fork").Pool(len(parts)) as pool:
        return {folder: made for part in pool.map(synth.render, parts) for folder, made in part.items()}


def stream(wanted: Sequence[Target]) -> str:
    """Return everything as one text."""
    return synth.stream(target.chart for target in wanted) if wanted else ""


def _digest(chart: bridge.Chart) -> str:
    """Changes exactly when a file would: a newer berth that makes the same objects renders nothing anew."""
    return f"sha256:{hashlib.sha256(f'{texts.FORMAT} {chart.text}'.encode()).hexdigest()[:16]}"


def _processes(count: int) -> int:
    """Each process keeps Python and Node busy, that is two cores."""
    return max(1, min((os.cpu_count() or 1) // 2, count // WORKSPACES_A_PROCESS))
