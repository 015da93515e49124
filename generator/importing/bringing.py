"""What an import does with every object: decides first, then writes.

An object is brought over as it stands (`copied`), brought over changed (`translated`), or left where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from berth import fleet as fleets
from berth import labels, rules, workspaces
from berth.problems import Problem
from berth.spec.texts import code
from generator import specs, texts
from generator.documents import build, compose
from generator.importing import repository, translation
from generator.importing.reading import Unread
from generator.study import extended_catalog, study

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from berth.plans import Plan
    from generator.documents import Document
    from generator.importing.reading import Piece

_LEFT = {
    "RAGEngine": (
        "retrieval is no part of berth",
        "it can go on asking the model: give it the Workspace's Service with /v1 as `inferenceService.url`",
    ),
    "MultiRoleInference": (
        "every replica does the whole inference, prefill and decode are not separated",
        "write one Workspace with this model and as many `replicas` as it had decode pods",
    ),
    "ModelMirror": (
        "weights are not mirrored by an object of their own",
        "set `weights.cache` in berth.yaml, or give a volume in `inference.llamacpp.weights.pvc`",
    ),
    "KaitoNodeClass": ("it belongs to the node provisioner", "name it as `nodeClass` in berth.yaml"),
}
_TUNING = ("berth serves models and does not train them", "serve the result: `inference.llamacpp.weights`")


@dataclass(frozen=True)
class Brought:
    """What became of one object: `file` is its place in the repository, None where it was left."""

    source: str
    kind: str
    name: str | None
    namespace: str | None = None
    file: str | None = None
    text: str = ""
    copied: bool = False
    problems: tuple[Problem, ...] = ()
    plan: Plan | None = None

    @property
    def outcome(self) -> str:
        if self.file is None:
            return "left"
        return "to-mend" if any(one.severity == "error" for one in self.problems) else "brought"


@dataclass(frozen=True)
class Import:
    """Everything that was found, and the fleet file that it is judged with."""

    brought: tuple[Brought, ...]
    fleet_file: str
    fleet_text: str | None
    """None where the repository has a fleet file already."""

    @property
    def complete(self) -> bool:
        """Whether everything of KAITO's came over and runs without a hand."""
        return all(
            one.outcome == "brought" or (one.outcome == "left" and not _matters(one)) for one in self.brought
        )


def decide(pieces: Sequence[Piece | Unread], out: Path | None) -> Import:
    """Return what will be brought where; nothing is written."""
    sets = {
        _identity(piece.data)
        for piece in pieces
        if not isinstance(piece, Unread) and _kind(piece) == "InferenceSet"
    }
    found = [_object(piece, sets) for piece in pieces]
    documents = [_document(one.text) for one in found if one.file is not None]
    fleet, catalog, fleet_file, fleet_text = _fleet(documents, out)
    judged = [_judged(one, fleet, catalog) for one in found]
    return Import(tuple(_apart(judged, out)), fleet_file, fleet_text)


def write(found: Import, out: Path) -> list[str]:
    """Write what is not there yet, and return the names; where nothing comes over, no repository is begun."""
    files = {one.file: one.text for one in found.brought if one.file is not None}
    if files and found.fleet_text is not None:
        files = {specs.FLEET_FILE: found.fleet_text, **dict(repository.others()), **files}
    written = [name for name, text in files.items() if repository.standing(out, name) is None]
    for name in written:
        repository.write(out, name, files[name])
    return written


def _object(piece: Piece | Unread, sets: set[tuple[str | None, str | None]]) -> Brought:
    if isinstance(piece, Unread):
        return Brought(piece.source, "file", None, problems=(_problem(piece.reason, piece.fix),))
    data, kind = piece.data, _kind(piece)
    metadata = data.get("metadata") if isinstance(data, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    here = Brought(piece.source, kind, _text(metadata.get("name")), _text(metadata.get("namespace")))
    reason = _reason_to_leave(kind, data, metadata, sets)
    if reason is not None:
        return replace(here, problems=(reason,))
    made = translation.inference_set(data) if kind == "InferenceSet" else translation.workspace(data)
    file = repository.file_name(made.document.get("metadata"))
    if file is None:
        fix = "give it a name that Kubernetes takes, and import again"
        return replace(here, problems=(_problem("its name makes no file name", fix),))
    copied = made.same and piece.text is not None
    text = texts.document(made.document)
    if copied and piece.text is not None:
        text = piece.text if piece.alone else _tidy(piece.text)
    return replace(here, file=file, text=text, copied=copied, problems=made.notes)


def _reason_to_leave(
    kind: str, data: Any, metadata: dict[str, Any], sets: set[tuple[str | None, str | None]]
) -> Problem | None:
    if not _of_kaito(data):
        return _problem("it is no object of KAITO's", severe=False)
    if kind in _LEFT:
        return _problem(*_LEFT[kind], severe=kind != "KaitoNodeClass")
    if kind not in (labels.KIND, "InferenceSet"):
        return _problem(f"the kind {code(kind)} is not known")
    if metadata.get("deletionTimestamp") is not None:
        return _problem("it is being deleted", severe=False)
    if kind == labels.KIND and "tuning" in data and "inference" not in data:
        return _problem(*_TUNING)
    maker = translation.owner(data)
    if maker is not None and (
        maker[0] != "InferenceSet" or (_text(metadata.get("namespace")), maker[1]) in sets
    ):
        return _problem(f"the {maker[0]} {code(maker[1])} made it; see there", severe=False)
    return None


def _judged(one: Brought, fleet: Fleet, catalog: Catalog) -> Brought:
    if one.file is None:
        return one
    verdict = rules.judge(workspaces.read(_document(one.text)), catalog, fleet)
    return replace(one, problems=(*one.problems, *verdict.problems), plan=verdict.plan)


def _apart(judged: Iterable[Brought], out: Path | None) -> Iterable[Brought]:
    """No two objects go to one file, and none to a file that holds something else."""
    first: dict[str, Brought] = {}
    here = repository.workspaces(out) if out is not None else {}
    for one in judged:
        if one.file is None:
            yield one
            continue
        other = first.setdefault(one.file, one)
        there = repository.standing(out, one.file) if out is not None else None
        if other is not one:
            same = _document(other.text) == _document(one.text)
            told = "the same" if same else "another one"
            fix = "" if same else "keep one of the two, or import them into two repositories"
            problem = _problem(f"{told} of this name comes from {other.source}", fix, severe=not same)
            yield replace(one, file=None, plan=None, problems=(problem,))
        elif there is not None and there != one.text:
            fix = "remove that file to import it anew, or keep it"
            problem = _problem(f"{one.file} is there already and differs, so it stays as it is", fix)
            yield replace(one, file=None, plan=None, problems=(problem,))
        elif there is None and (twin := _twin(one, here)) is not None:
            same = twin.data == _document(one.text)
            fix = "" if same else "remove it there to import it anew, or keep it"
            differs = "" if same else " and differs, so it stays as it is"
            problem = _problem(f"{twin.file} holds it already{differs}", fix, severe=not same)
            yield replace(one, file=None, plan=None, problems=(problem,))
        else:
            yield one


def _twin(one: Brought, here: Mapping[tuple[str | None, str], Document]) -> Document | None:
    """Return the same Workspace in another file; one without a namespace is most often of `default`."""
    if one.name is None:
        return None
    found = here.get((one.namespace, one.name))
    return here.get((None, one.name)) if found is None and one.namespace == "default" else found


def _fleet(documents: list[Any], out: Path | None) -> tuple[Fleet, Catalog, str, str | None]:
    there = specs.find_fleet(str(out)) if out is not None else None
    if there is not None:
        found = study([], there)
        return found.fleet, found.catalog, str(there), None
    text = repository.fleet_text(documents, extended_catalog(fleets.Fleet())[0])
    fleet, problems = fleets.read(_document(text))
    if fleet is None or problems:
        raise AssertionError(f"a fleet file of our own has problems: {problems}")
    name = specs.FLEET_FILE if out is None else str(out / specs.FLEET_FILE)
    return fleet, extended_catalog(fleet)[0], name, text


def _matters(one: Brought) -> bool:
    return any(problem.severity == "error" for problem in one.problems)


def _kind(piece: Piece) -> str:
    kind = piece.data.get("kind") if isinstance(piece.data, dict) else None
    return kind if isinstance(kind, str) else "document"


def _of_kaito(data: Any) -> bool:
    version = data.get("apiVersion") if isinstance(data, dict) else None
    return isinstance(version, str) and version.startswith(f"{labels.GROUP}/")


def _identity(data: Any) -> tuple[str | None, str | None]:
    metadata = data.get("metadata") if isinstance(data, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    return _text(metadata.get("namespace")), _text(metadata.get("name"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _document(text: str) -> Any:
    node = compose(text)
    return None if node is None else build(node)[0]


def _tidy(text: str) -> str:
    """Take the blanks away that stand where a separator was."""
    first, _, rest = text.partition("\n")
    return (rest if not first.strip() else text).strip("\n") + "\n"


def _problem(reason: str, fix: str = "", *, severe: bool = True) -> Problem:
    return Problem((), None, reason, fix, "error" if severe else "warning", rule="left")
