"""The catalogue and the fleet file in use; both change without a restart.

The file is mounted from a ConfigMap, which changes as a whole. A file that cannot be used changes nothing:
the last good one stays, and metrics and logs say so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import yaml

from berth import catalog as catalogs
from berth import fleet as fleets
from berth import rules
from berth.entries import InvalidEntry
from kube.logs import fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from berth.catalog import Catalog
    from berth.fleet import Fleet
    from berth.problems import Problem

log = logging.getLogger(__name__)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LARGEST_BYTES = 4 * 2**20


class BadConfiguration(Exception):
    """The fleet file cannot be used, with every reason."""


class Configuration:
    """What a program in the cluster decides by, apart from the cluster's objects."""

    def __init__(self, path: Path | None, reloaded: Callable[[bool], None]) -> None:
        self.catalog: Catalog = catalogs.load()
        self.fleet: Fleet = fleets.Fleet()
        self._path = path
        self._reloaded = reloaded
        self._seen: bytes | None = None
        self._told: str | None = None

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            BadConfiguration: if it cannot be used; there is no last good one to go on with.
        """
        if self._path is not None:
            self._seen = self._bytes(self._path)
            self.fleet, self.catalog = parse(self._seen)
        self._reloaded(True)

    def refresh(self) -> bool:
        """Read the file again if it changed; return whether another one is in use now."""
        if self._path is None:
            return False
        try:
            content = self._bytes(self._path)
        except BadConfiguration as problem:
            self._seen = None  # whatever is there next is news, even what was in use before
            self._broken(str(problem))
            return False
        if content == self._seen:
            return False
        self._seen = content
        try:
            fleet, catalog = parse(content)
        except BadConfiguration as problem:
            self._broken(str(problem))
            return False
        self._told = None
        self.fleet, self.catalog = fleet, catalog
        self._reloaded(True)
        log.info("the fleet file changed and is in use", extra=fields(digest=fleet.digest))
        return True

    def _bytes(self, path: Path) -> bytes:
        try:
            content = path.read_bytes()
        except OSError as problem:
            raise BadConfiguration(f"{path}: {problem.strerror}") from problem
        if len(content) > _LARGEST_BYTES:
            raise BadConfiguration(f"{path} is larger than {_LARGEST_BYTES} bytes")
        return content

    def _broken(self, reason: str) -> None:
        """Say it once for each content, and go on."""
        if reason != self._told:
            log.error("the fleet file is broken; the last good one stays: %s", reason)
        self._told = reason
        self._reloaded(False)


def parse(content: bytes) -> tuple[Fleet, Catalog]:
    """Read a fleet file, and the catalogue with its entries.

    Raises:
        BadConfiguration: with every problem.
    """
    try:
        document: Any = yaml.load(content.decode(), Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as problem:
        raise BadConfiguration(f"it is no YAML: {' '.join(str(problem).split())}") from problem
    fleet, problems = fleets.read(document)
    if fleet is None:
        raise BadConfiguration(_told(problems))
    try:
        catalog = catalogs.load().extended(fleet.models, fleet.instance_types, fleet.prices)
    except InvalidEntry as error:
        raise BadConfiguration(_told(list(error.problems))) from error
    unknown = rules.unknown_fallbacks(fleet, catalog)
    if unknown:
        raise BadConfiguration(_told(unknown))
    return fleet, catalog


def _told(problems: list[Problem]) -> str:
    return "; ".join(problem.message for problem in problems if problem.severity == "error")
