"""`berth verify`: a rendered folder is derived again from its own provenance, and every edit is told.

The Workspace in each folder holds spec and plan, and the record at the root what the fleet file said. From
these the objects are made again and compared with the files, so an edit is found even where somebody mended
the record's digests as well. Where the catalogue is still the one that was used, the plan is made again too.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from berth import fleet as fleets
from berth import labels, sizing, workspaces
from berth.errors import BerthError, InvalidWorkspace, NoFit
from berth.plans import Plan
from generator import charts, lockfile, store, synth

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from berth.workspaces import Workspace
    from generator.lockfile import Lock

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_FIELDS = 3
"""Differing fields of one file that are told; the first ones say enough."""


class NotRenderedError(BerthError):
    """The folder was not written by `berth render`."""


@dataclass(frozen=True)
class Inspection:
    """A rendered folder with everything that it is judged by."""

    out: Path
    lock: Lock
    edited: frozenset[str]
    """Files that are not as the record has them."""
    fleet: Fleet | None
    catalog: Catalog | None


def command_line(folder: Path) -> int:
    """Run the command and return its exit code: 0 as rendered, 1 edited."""
    findings = list(verify(folder))
    for line in findings:
        print(line)
    lock = lockfile.load(folder)
    count = len(lock.folders) if lock is not None else 0
    if findings:
        told = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        print(f"{folder}: {told} in {count} Workspaces; render again to mend them", file=sys.stderr)
        return 1
    print(f"{folder}: all {count} Workspaces are as they were rendered", file=sys.stderr)
    return 0


def verify(out: Path) -> Iterator[str]:
    """Yield one line for everything that is not what its provenance makes of it.

    Raises:
        NotRenderedError: the folder has no record.
        InvalidLockError: its record can't be read.
    """
    lock = lockfile.load(out)
    if lock is None:
        raise NotRenderedError(f"{out} has no {lockfile.NAME}: `berth render` did not write it")
    if (out / store.STAGE).exists():
        yield f"{out / store.STAGE}: left by a render that was interrupted"
    fleet, catalog = _fleet_and_catalog(lock)
    if fleet is None:
        yield f"{out / lockfile.NAME}: the fleet settings in it can't be read"
    inspection = Inspection(out, lock, frozenset(store.edited(out, lock)), fleet, catalog)
    for folder in sorted(lock.folders):
        yield from _folder(inspection, folder)
    if synth.KUSTOMIZATION in lock.files:
        yield from _kustomization(out, sorted(lock.folders))


def _folder(inspection: Inspection, folder: str) -> Iterator[str]:
    place, recorded = inspection.out / folder, inspection.lock.folders[folder].files
    missing = {name for name in recorded if not (place / name).is_file()}
    yield from (f"{place / name}: missing" for name in sorted(missing))
    found = _workspace(place, recorded)
    if isinstance(found, str):
        yield found
        yield from _by_digest(inspection, folder, missing)
        return
    workspace, plan = found
    yield from (f"{place}: {reason}" for reason in _foreign_plan(inspection, folder, workspace, plan))
    fleet = inspection.fleet
    if fleet is None or plan.fleet_digest != fleet.digest:
        yield from _by_digest(inspection, folder, missing)
        return
    made = charts.objects(plan, workspace, fleet)
    wanted = {synth.file_name(thing): thing for thing in made}
    for name, thing in wanted.items():
        if name not in missing:
            yield from _file(inspection, folder, name, thing)
    if synth.KUSTOMIZATION not in missing:
        yield from _kustomization(place, list(wanted))
    for name in sorted(set(recorded) - set(wanted) - {synth.KUSTOMIZATION} - missing):
        yield f"{place / name}: in {lockfile.NAME}, but the plan makes no such object"


def _file(inspection: Inspection, folder: str, name: str, wanted: Any) -> Iterator[str]:
    path = inspection.out / folder / name
    if not path.is_file():
        yield f"{path}: missing, and in {lockfile.NAME} too"
        return
    differences = list(_differences(wanted, _load(path)))
    if differences:
        yield f"{path}: {'; '.join(differences[:_MOST_FIELDS])}"
    elif f"{folder}/{name}" in inspection.edited:
        yield f"{path}: edited by hand, with the same meaning"


def _kustomization(place: Path, entries: list[str]) -> Iterator[str]:
    path = place / synth.KUSTOMIZATION
    try:
        text = path.read_bytes()
    except OSError:
        yield f"{path}: missing"
        return
    if text != synth.kustomization(entries).encode():
        yield f"{path}: edited by hand"


def _by_digest(inspection: Inspection, folder: str, missing: set[str]) -> Iterator[str]:
    """The second best: without a plan to derive from, the record's digests still show what was edited."""
    for name in sorted(inspection.lock.folders[folder].files):
        if name not in missing and f"{folder}/{name}" in inspection.edited:
            yield f"{inspection.out / folder / name}: edited by hand"


def _workspace(place: Path, recorded: Mapping[str, str]) -> tuple[Workspace, Plan] | str:
    """Return the folder's Workspace and its plan, or why they can't be had."""
    names = [name for name in recorded if name.startswith("workspace-")]
    if len(names) != 1:
        return f"{place}: holds {len(names)} Workspaces, where each folder has one"
    file = place / names[0]
    document = _load(file)
    if not isinstance(document, dict):
        return f"{file}: no Workspace that can be read"
    try:
        workspace = workspaces.parse(document)
        plan = Plan.model_validate_json(workspace.annotations.get(labels.PLAN, ""))
    except InvalidWorkspace as error:
        return f"{file}: no valid Workspace: {error}"
    except ValidationError:
        return f"{file}: the annotation {labels.PLAN} holds no plan that this berth can read"
    return workspace, plan


def _foreign_plan(inspection: Inspection, folder: str, workspace: Workspace, plan: Plan) -> Iterator[str]:
    """Tell a plan that is another's, of another spec or fleet, or that this berth would not make."""
    fleet, catalog = inspection.fleet, inspection.catalog
    if synth.folder_name(workspace.namespace, workspace.name) != folder:
        yield f"the Workspace in it is {workspace.name}, which belongs to another folder"
    if (plan.name, plan.namespace) != (workspace.name, workspace.namespace):
        yield f"the plan is {plan.name}'s, and the Workspace is {workspace.name}"
    elif plan.spec_digest != workspace.spec_digest:
        yield "the spec was changed after it was planned"
    elif fleet is None or catalog is None:
        return
    elif plan.fleet_digest != fleet.digest:
        yield f"the plan was made for another fleet file than {lockfile.NAME} holds"
    else:
        try:
            fresh = sizing.plan(workspace, catalog, fleet)
        except (BerthError, NoFit) as error:
            yield f"this berth would not plan it: {error}"
            return
        if fresh.catalog_digest == plan.catalog_digest and fresh != plan:
            yield "the plan is not the one that berth makes of this spec"


def _fleet_and_catalog(lock: Lock) -> tuple[Fleet | None, Catalog | None]:
    from generator.study import extended_catalog

    fleet, _ = fleets.read(dict(lock.fleet))
    if fleet is None:
        return None, None
    catalog, problems = extended_catalog(fleet)
    return fleet, catalog if not problems else None


def _differences(wanted: Any, got: Any, path: str = "") -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in sorted({*wanted, *got}, key=str):
            here = f"{path}.{key}" if path else str(key)
            if key not in got:
                yield f"{here} is missing"
            elif key not in wanted:
                yield f"{here} was added"
            else:
                yield from _differences(wanted[key], got[key], here)
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif wanted != got or isinstance(wanted, bool) != isinstance(got, bool):
        yield f"{path or 'the document'} is {_short(got)}, rendered as {_short(wanted)}"


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_bytes(), Loader=_LOADER)
    except (OSError, yaml.YAMLError, ValueError):
        return None
