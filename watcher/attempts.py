"""Which attempt each node is at: entries of the status brought up to date with the claims that there are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from watcher import records
from watcher.observed import Stage
from watcher.provisioners.existing import GRACE_S
from watcher.records import Entry

if TYPE_CHECKING:
    from watcher.observed import Claim, Node
    from watcher.scene import Scene

SILENCE_S = 120.0
"""A provisioner takes up a claim within seconds; after this long nobody will."""


def advanced(scene: Scene, kept: list[Claim]) -> dict[int, Entry]:
    """Return every entry as its claim is now; one whose claim went is at its next attempt."""
    found = {claim.index: scene.entries.get(claim.index, Entry(claim.index)).seen(claim) for claim in kept}
    by_name = {claim.name: claim for claim in scene.claims}
    going = {claim.index: claim for claim in scene.claims if claim.terminating}
    for index, entry in scene.entries.items():
        if index in found:
            continue
        claim: Claim | None = by_name.get(entry.name) or going.get(index)
        if claim is not None and claim.attempt < entry.attempt:
            claim = None  # of an attempt before
        if claim is not None and not claim.terminating:
            continue  # too much, or outdated: it goes, and nothing is to be learnt from it
        if claim is not None:
            entry = entry.seen(claim)
        found[index] = entry.gone(claim, scene.reading.instance_types, scene.now) if entry.name else entry
    return found


def failed(scene: Scene, entry: Entry, claim: Claim) -> Entry:
    """Return the entry after its claim was given up."""
    if claim.failure is None:
        return entry
    return entry.failed(claim.failure, scene.reading.instance_types, scene.now)


def slots(scene: Scene, used: set[int], entries: dict[int, Entry], missing: int) -> list[Entry]:
    """Return an entry for each missing node: those that failed before, then new ones.

    `used` are the indices of claims that stay for now. An attempt's name was never used before, as far as
    anybody can see.
    """
    if missing <= 0:
        return []
    attempts: defaultdict[int, int] = defaultdict(int)
    for claim in scene.claims:
        attempts[claim.index] = max(attempts[claim.index], claim.attempt + 1)
    old = [entries[index] for index in sorted(entries) if index not in used][:missing]
    indices = {entry.index for entry in old} | used
    fresh = [index for index in range(len(indices) + missing) if index not in indices]
    types = scene.reading.instance_types
    return [
        replace(
            entry,
            attempt=max(entry.attempt, attempts[entry.index]),
            instance_type=entry.instance_type if entry.instance_type in types else types[0],
        )
        for entry in [*old, *(Entry(index) for index in fresh[: missing - len(old)])]
    ]


def asked(scene: Scene, entry: Entry) -> Entry:
    """Return the entry with the name under which its claim is made."""
    name = records.name(scene.uid, entry.index, entry.attempt)
    since = scene.now.replace(microsecond=0)
    return replace(entry, name=name, phase=Stage.ASKED.word, retry_at=None, since=since)


def next_s(scene: Scene, waiting: list[Entry], kept: list[Claim], given: tuple[Node, ...]) -> float | None:
    """Return when a wait is over, a provisioner was silent or a given node was away for too long."""
    waits = [
        (entry.retry_at - scene.now).total_seconds()
        for entry in waiting
        if entry.retry_at is not None and entry.retry_at > scene.now
    ]
    waits += [
        left
        for claim in kept
        if claim.silent and (left := SILENCE_S - (scene.now - claim.created).total_seconds()) > 0
    ]
    waits += [
        left
        for node in given
        if not node.ready and (left := GRACE_S - (scene.now - node.since).total_seconds()) > 0
    ]
    return min(waits) if waits else None
