"""What `check`, `plan` and `render` share: files read, fleet found, every Workspace judged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from berth import catalog as catalogs
from berth import fleet as fleets
from berth import rules, workspaces
from berth.models import InvalidEntry
from generator import specs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from berth.plans import Plan
    from berth.problems import Problem
    from berth.rules import Verdict
    from berth.workspaces import Workspace
    from generator.documents import Document


@dataclass(frozen=True)
class Located:
    """A problem, and the document that its field stands in; the place is looked up when it is asked for."""

    problem: Problem
    place: Document | tuple[int, int]

    @cached_property
    def position(self) -> tuple[int, int]:
        """Line and column, counted from 1."""
        return self.place if isinstance(self.place, tuple) else self.place.position(self.problem.path)

    @property
    def line(self) -> int:
        return self.position[0]

    @property
    def column(self) -> int:
        return self.position[1]


@dataclass(frozen=True, slots=True)
class Subject:
    """One Workspace document of one file, judged; or a file that could not be read, without a name."""

    file: str
    namespace: str | None
    name: str | None
    problems: tuple[Located, ...]
    verdict: Verdict | None = None
    workspace: Workspace | None = None
    document: Document | None = None

    @property
    def plan(self) -> Plan | None:
        return self.verdict.plan if self.verdict is not None else None

    @property
    def twins(self) -> list[Problem]:
        """The problems of Workspaces that stand elsewhere already."""
        return [located.problem for located in self.problems if located.problem.rule == specs.DUPLICATE]

    @property
    def valid(self) -> bool:
        return not any(located.problem.severity == "error" for located in self.problems)


@dataclass(frozen=True, slots=True)
class Study:
    """All Workspaces of the given paths, in the order of files and documents."""

    subjects: tuple[Subject, ...]
    fleet: Fleet
    catalog: Catalog
    fleet_file: str | None = None
    notices: tuple[str, ...] = field(default=())

    @property
    def valid(self) -> bool:
        return all(subject.valid for subject in self.subjects)

    def together(self) -> Study:
        """The same, where a Workspace that stands twice is an error: both would be one folder."""
        return replace(self, subjects=tuple(_without_twins(subject) for subject in self.subjects))

    @property
    def plans(self) -> list[Plan]:
        return [subject.plan for subject in self.subjects if subject.plan is not None]


def study(paths: Sequence[str], fleet_path: Path | None = None) -> Study:
    """Read and judge everything that the paths hold."""
    fleet, fleet_file, fleet_problems, fleet_document = _fleet(paths, fleet_path)
    catalog, catalog_problems = extended_catalog(fleet)
    unknown = rules.unknown_fallbacks(fleet, catalog)
    if unknown:
        catalog_problems = (*catalog_problems, *unknown)
        wrong = {problem.value for problem in unknown}
        known = tuple(name for name in fleet.fallback_instance_types if name not in wrong)
        fleet = fleet.model_copy(update={"fallback_instance_types": known})
    subjects: list[Subject] = []
    if fleet_file is not None and (fleet_problems or catalog_problems):
        located = [
            *fleet_problems,
            *(Located(problem, fleet_document or (1, 1)) for problem in catalog_problems),
        ]
        subjects.append(Subject(fleet_file, None, None, tuple(located)))
    for source in specs.load(paths):
        if source.problems:
            own = tuple(Located(found.problem, (found.line, found.column)) for found in source.problems)
            subjects.append(Subject(source.file, None, None, own))
        subjects += [_judged(document, catalog, fleet) for document in source.documents]
    return Study(tuple(_within_budget(subjects, fleet)), fleet, catalog, fleet_file)


def _without_twins(subject: Subject) -> Subject:
    if not subject.twins:
        return subject
    problems = tuple(
        Located(replace(located.problem, severity="error"), located.place)
        if located.problem.rule == specs.DUPLICATE
        else located
        for located in subject.problems
    )
    return replace(subject, problems=problems)


def _judged(document: Document, catalog: Catalog, fleet: Fleet) -> Subject:
    reading = workspaces.read(document.data)
    verdict = rules.judge(reading, catalog, fleet)
    workspace = reading.workspace
    metadata = document.data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return Subject(
        file=document.file,
        namespace=_text(metadata.get("namespace")),
        name=_text(metadata.get("name")),
        problems=tuple(Located(problem, document) for problem in verdict.problems),
        verdict=verdict,
        workspace=workspace,
        document=document,
    )


def _within_budget(subjects: list[Subject], fleet: Fleet) -> list[Subject]:
    if not fleet.budgets:
        return subjects
    over = rules.over_budget((subject.plan for subject in subjects if subject.plan), fleet)
    by_plan: dict[int, list[Problem]] = {}
    for plan, problem in over:
        by_plan.setdefault(id(plan), []).append(problem)
    return [
        replace(
            subject,
            verdict=None,
            problems=(
                *(Located(problem, subject.document) for problem in by_plan[id(subject.plan)]),
                *subject.problems,
            ),
        )
        if id(subject.plan) in by_plan and subject.plan is not None and subject.document is not None
        else subject
        for subject in subjects
    ]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def extended_catalog(fleet: Fleet) -> tuple[Catalog, tuple[Problem, ...]]:
    """Return the catalogue with the fleet file's own models, instance types and prices."""
    catalog = catalogs.load()
    try:
        own = catalog.extended(models=fleet.models, instance_types=fleet.instance_types, prices=fleet.prices)
    except InvalidEntry as error:
        return catalog, error.problems
    return own, ()


def _fleet(
    paths: Sequence[str], given: Path | None
) -> tuple[Fleet, str | None, list[Located], Document | None]:
    """Return the fleet file's content, its name and its problems; defaults where there is none."""
    path = given or next((found for found in map(specs.find_fleet, paths) if found is not None), None)
    if path is None:
        return fleets.Fleet(), None, [], None
    source = specs.load_fleet(path)
    located = [Located(found.problem, (found.line, found.column)) for found in source.problems]
    if source.document is None:
        return fleets.Fleet(), str(path), located, None
    fleet, found = fleets.read(source.document.data)
    located += [Located(problem, source.document) for problem in found]
    return fleet or fleets.Fleet(), str(path), located, source.document
