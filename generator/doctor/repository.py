"""The repository: its fleet file, its Workspaces, and whether what is rendered is what they make."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from berth import __version__
from berth import fleet as fleets
from berth.errors import BerthError
from generator import folders, lockfile, platform, render, specs, store, synth
from generator.doctor.findings import error, fine, unknown, warning
from generator.platform import foundation, helm, options, output
from generator.reports import counted
from generator.study import study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from generator.doctor.findings import Finding
    from generator.study import Study

AREA = "repository"
_SCHEMA = "berth.schema.json"


def judge(root: Path) -> Iterator[Finding]:
    """Yield what there is to say about a repository.

    Raises:
        BerthError: it can't be read.
    """
    found = study([str(root)])
    yield _fleet(found, root)
    yield from _schema(root)
    yield from _workspaces(found, root)
    yield from _rendered(found, root)
    yield from _platform(root)


def _fleet(found: Study, root: Path) -> Finding:
    if found.fleet_file is None:
        fix = f"run `berth init {root}`, or write {specs.FLEET_FILE} at its root"
        return warning(AREA, "fleet file", "there is none, so every field has its default", fix)
    wrong = [one for one in found.subjects if one.document is None and one.file == found.fleet_file]
    if any(not one.valid for one in wrong):
        first = wrong[0].problems[0].problem
        return error(
            AREA, "fleet file", f"{first.field}: {first.reason}", f"run `berth check {root}`; {first.fix}"
        )
    fleet = found.fleet
    told = f"{found.fleet_file}: {fleet.cloud}, nodes by {fleet.provisioning}, GitOps by {fleet.gitops}"
    return fine(AREA, "fleet file", told)


def _schema(root: Path) -> Iterator[Finding]:
    place = root / _SCHEMA
    if not place.is_file():
        return
    try:
        same = json.loads(place.read_text(encoding="utf-8")) == fleets.json_schema()
    except ValueError:
        same = False
    if same:
        yield fine(AREA, "schema for editors", f"{_SCHEMA} is this version's")
    else:
        fix = f"remove {place} and run `berth init {root}`, which writes it again"
        yield warning(AREA, "schema for editors", f"{_SCHEMA} is another version's", fix)


def _workspaces(found: Study, root: Path) -> Iterator[Finding]:
    named = [one for one in found.subjects if one.document is not None]
    bad = [one for one in found.subjects if not one.valid and one.file != found.fleet_file]
    if bad:
        names = ", ".join(one.name or one.file for one in bad[:3])
        why = f"{counted(len(bad), 'has', 'have')} problems: {names}{', …' if len(bad) > 3 else ''}"
        yield error(AREA, "Workspaces", why, f"run `berth check {root}`, which names the fix of each problem")
    elif not named:
        yield warning(
            AREA, "Workspaces", "there is none", "write one, or bring KAITO's over with `berth import`"
        )
    elif twins := [problem for one in found.subjects for problem in one.twins]:
        more = f", and {len(twins) - 1} more stand twice" if len(twins) > 1 else ""
        yield warning(AREA, "Workspaces", f"{twins[0].reason}{more}", twins[0].fix or "")
    else:
        yield fine(AREA, "Workspaces", f"{counted(len(named), 'Workspace', 'Workspaces')} without problems")


def _rendered(found: Study, root: Path) -> Iterator[Finding]:
    outs = sorted(place.parent for place in _files(root, lockfile.NAME))
    if not outs:
        fix = f"run `berth render {root} --out {root / 'rendered'}` and commit the result"
        yield warning(AREA, "rendered manifests", f"no folder below {root} holds any", fix)
    for out in outs:
        yield from _folder(found, root, out)


def _folder(found: Study, root: Path, out: Path) -> Iterator[Finding]:
    what = f"rendered manifests in {out}"
    # A repository of several clusters holds one such folder beside the specs of each.
    near = str(out.parent)
    own = near if any(source.documents for source in specs.load([near])) else str(root)
    again = f"run `berth render {own} --out {out}` and commit the result"
    try:
        lock = lockfile.load(out)
    except lockfile.InvalidLockError as problem:
        yield error(AREA, what, str(problem), again)
        return
    if lock is None:
        return
    if lock.berth != __version__:
        why = (
            f"berth {lock.berth} wrote them, and this is {__version__}; pods that need no change keep running"
        )
        yield warning(AREA, what, why, f"look at `git diff` after: {again}")
    edited = list(store.edited(out, lock))
    if edited:
        why = f"edited by hand: {', '.join(edited[:3])}{', …' if len(edited) > 3 else ''}"
        yield error(AREA, what, why, f"run `berth verify {out}` to see the edits; {again}")
        return
    if not found.valid:
        yield unknown(AREA, what, "the specs have problems, so nobody can say whether it is current")
        return
    try:
        outcome = render.run([own], out, check=True, jobs=1)
    except BerthError as problem:
        yield unknown(AREA, what, str(problem))
        return
    if outcome.differences:
        told = outcome.differences[0]
        more = f" and {len(outcome.differences) - 1} more" if len(outcome.differences) > 1 else ""
        yield error(AREA, what, f"it is not what the specs make: {told}{more}", again)
    else:
        yield fine(
            AREA, what, f"{counted(len(lock.folders), 'Workspace', 'Workspaces')}, as the specs make them"
        )


def _platform(root: Path) -> Iterator[Finding]:
    for place in sorted([*_files(root, synth.KUSTOMIZATION), *_files(root, "Chart.yaml")]):
        text = place.read_text(encoding="utf-8", errors="replace")
        if text.startswith(platform.HEADER):
            yield _platform_folder(place.parent, options.in_text(text))


def _platform_folder(folder: Path, given: list[str]) -> Finding:
    what, fleet = f"platform in {folder}", specs.find_fleet(str(folder))
    words = [f"--out={folder}", *([f"--fleet={fleet}"] if fleet is not None else []), *given]
    again = f"run `berth install {' '.join(words)}` and commit the result"
    settings = output.read(fleet, options.read(given))
    if settings is None:
        return unknown(AREA, what, "the fleet file has problems, so nobody can say whether it is current")
    try:
        wanted = helm.files(settings) if helm.FORMAT in given else platform.files(settings)
    except foundation.FleetTooLargeError as problem:
        return error(AREA, what, str(problem), "make the fleet file smaller")
    stale, left = output.differences(folder, wanted)
    if stale or left:
        first = folder / stale[0] if stale else left[0]
        return error(AREA, what, f"it is not what `berth install` makes: {first}", again)
    return fine(AREA, what, "as this version makes it from the fleet file")


def _files(root: Path, name: str) -> Iterator[Path]:
    for place in root.rglob(name):
        parts = place.relative_to(root).parts[:-1]
        if not any(part.startswith(".") or part in folders.SKIPPED_FOLDERS for part in parts):
            yield place
