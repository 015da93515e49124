"""`berth render`: which Workspaces changed, what they become, and how the folder gets there."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from berth import __version__
from berth.errors import BerthError
from generator import lockfile, quick, specs, store, synth, unchanged
from generator.lockfile import Lock, Owned
from generator.store import Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from generator.rendering import Target
    from generator.study import Study


MANY = 300
"""Workspaces whose rendering takes so long that a person wonders."""


class OutputError(BerthError):
    """The output folder can't be written to for a reason of the command line."""


@dataclass(frozen=True)
class Outcome:
    """What a render did, or with `--check` what it would do."""

    valid: bool = True
    rendered: tuple[str, ...] = ()
    """Folders that were made anew."""
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    differences: tuple[str, ...] = ()
    """With `--check`, every file that differs from a fresh render, and how."""
    notices: tuple[str, ...] = field(default=())


def command_line(
    paths: Sequence[str],
    *,
    out: str,
    check: bool = False,
    jobs: int | None = None,
    fleet: Path | None = None,
    quiet: bool = False,
) -> int:
    """Run the command and return its exit code; data goes to stdout, talk to stderr."""
    if out == "-":
        if check:
            raise OutputError("--check compares with a folder, and --out - has none")
        return _print_stream(paths, fleet, jobs, quiet=quiet)
    outcome = run(paths, Path(out), check=check, jobs=jobs, fleet=fleet, quiet=quiet)
    for line in outcome.notices:
        _say(line)
    if not outcome.valid:
        _say("nothing was rendered")
        return 1
    for line in outcome.differences:
        print(line)
    if outcome.differences:
        _say(f"{out} is not what `berth render` makes of these specs; render again and commit")
        return 1
    _say(quick.summary(out, len(outcome.rendered), outcome.unchanged, outcome.removed))
    return 0


def run(
    paths: Sequence[str],
    out: Path,
    *,
    check: bool = False,
    jobs: int | None = None,
    fleet: Path | None = None,
    quiet: bool = False,
) -> Outcome:
    """Bring a folder to what the specs say; with `check`, only tell what would change.

    Raises:
        BerthError: a path, the record or cdk8s stands in the way; the folder is as it was.
    """
    _refuse_overlap(paths, out)
    fleet = fleet or next((found for found in map(specs.find_fleet, paths) if found is not None), None)
    inputs = unchanged.inputs(paths, fleet)
    known = unchanged.known(out, inputs)
    if known is not None:
        return Outcome(unchanged=known)
    if lockfile.load(out) is None and jobs in (None, 1):
        from generator import bridge

        bridge.warm()
    from generator.study import study

    found = study(paths, fleet).together()
    notices = _problems(found, errors_only=check or quiet)
    if not found.valid:
        return Outcome(valid=False, notices=tuple(notices))
    with contextlib.nullcontext() if check else store.alone(out):
        outcome, lock = _bring(found, out, lockfile.load(out), check=check, jobs=jobs)
        if not check and lock.folders:
            unchanged.remember(out, inputs, lock)
    return Outcome(
        rendered=outcome.rendered,
        removed=outcome.removed,
        unchanged=outcome.unchanged,
        differences=outcome.differences,
        notices=(*notices, *outcome.notices),
    )


def _bring(
    found: Study, out: Path, old: Lock | None, *, check: bool, jobs: int | None
) -> tuple[Outcome, Lock]:
    from generator import rendering

    pending = None if check else store.recover(out)
    before = old or Lock("")
    targets = rendering.targets(found)
    if not targets and not before.folders:
        return Outcome(notices=("there is no Workspace in what was given",)), before
    edits = list(store.edited(out, before))
    damaged = {path.partition("/")[0] for path in edits if "/" in path}
    stale = [
        target for target in targets if target.folder in damaged or _inputs(before, target) != target.inputs
    ]
    if len(stale) >= MANY and sys.stderr.isatty():
        _say(f"rendering {len(stale)} Workspaces …")
    made = {
        folder: {name: text.encode() for name, text in texts.items()}
        for folder, texts in rendering.files(stale, jobs).items()
    }
    new, root, notices = _wanted(found, targets, made, before, out)
    update = Update(new, made, root)
    removed = tuple(sorted(set(before.folders) - set(new.folders)))
    differences = _differences(out, update, before) if check else []
    if not check and (update.folders or root or removed or new != before):
        store.apply(out, update, before, pending)
    notices += [f"{out}/{path} was edited by hand, and is rendered again" for path in edits if not check]
    outcome = Outcome(
        rendered=tuple(target.folder for target in stale),
        removed=removed,
        unchanged=len(targets) - len(stale),
        differences=tuple(differences),
        notices=tuple(notices),
    )
    return outcome, new


def _wanted(
    found: Study,
    targets: Sequence[Target],
    made: Mapping[str, Mapping[str, bytes]],
    before: Lock,
    out: Path,
) -> tuple[Lock, dict[str, bytes], list[str]]:
    """Return the new record, the root's files that have to be written, and what to say about them."""
    owned = {}
    for target in targets:
        if target.folder in made:
            files = {name: lockfile.sha256(text) for name, text in made[target.folder].items()}
            owned[target.folder] = Owned(target.inputs, files)
        else:
            owned[target.folder] = before.folders[target.folder]
    text = synth.kustomization(sorted(owned)).encode()
    place = out / synth.KUSTOMIZATION
    there = place.read_bytes() if place.is_file() else None
    root: dict[str, bytes] = {}
    owned_root, notices = {synth.KUSTOMIZATION: lockfile.sha256(text)}, []
    if there is not None and there != text and synth.KUSTOMIZATION not in before.files:
        owned_root = {}
        notices = [f"{place} is not berth's and stays as it is; name the new folders in it"]
    elif there != text:
        root[synth.KUSTOMIZATION] = text
    return Lock(__version__, found.fleet.to_json(), owned, owned_root), root, notices


def _differences(out: Path, update: Update, before: Lock) -> list[str]:
    found = []
    for folder, files in {**update.folders, "": update.files}.items():
        for name, content in files.items():
            path = f"{folder}/{name}" if folder else name
            place = out / path
            if not place.exists():
                found.append(f"{place}: missing")
            elif not place.is_file() or place.read_bytes() != content:
                found.append(f"{place}: differs")
        gone = set(before.folders[folder].files) - set(files) if folder in before.folders else set()
        found += [f"{out}/{folder}/{name}: no longer wanted" for name in sorted(gone)]
    for folder in sorted(set(before.folders) - set(update.lock.folders)):
        found.append(f"{out}/{folder}: no longer wanted")
    if not found and update.lock != before:
        found.append(f"{out / lockfile.NAME}: {'differs' if before.berth else 'missing'}")
    return sorted(found)


def _inputs(lock: Lock, target: Target) -> str | None:
    owned = lock.folders.get(target.folder)
    return owned.inputs if owned is not None else None


def _print_stream(paths: Sequence[str], fleet: Path | None, jobs: int | None, *, quiet: bool) -> int:
    from generator import rendering
    from generator.study import study

    found = study(paths, fleet).together()
    for line in _problems(found, errors_only=quiet):
        _say(line)
    if not found.valid:
        _say("nothing was rendered")
        return 1
    sys.stdout.write(rendering.stream(rendering.targets(found)))
    return 0


def _problems(found: Study, *, errors_only: bool) -> list[str]:
    from generator import reports

    return list(reports.problems_text(found, errors_only=errors_only))


def _refuse_overlap(paths: Sequence[str], out: Path) -> None:
    """An output folder is never read as specs, so it must not hold those that are rendered."""
    place = out.resolve()
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; name a folder to render to")
    for path in paths:
        real = Path(path).resolve()
        if path != "-" and (real == place or place in real.parents):
            raise OutputError(f"--out {out} holds the specs of {path}; name a folder of its own")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
