"""What the doctor says: one value for everything that was looked at, the healthy parts too."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How something is; only an error makes the exit code 1."""

    fine = "fine"
    warning = "warning"
    error = "error"
    unknown = "unknown"
    """It could not be looked at, and the reason says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part of a repository or a cluster: what it is, how it is and why, and what to do about it."""

    area: str
    what: str
    state: State
    why: str
    fix: str = ""


def fine(area: str, what: str, why: str) -> Finding:
    """Nothing to do."""
    return Finding(area, what, State.fine, why)


def warning(area: str, what: str, why: str, fix: str) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(area, what, State.warning, why, fix)


def error(area: str, what: str, why: str, fix: str) -> Finding:
    """Something does not work."""
    return Finding(area, what, State.error, why, fix)


def unknown(area: str, what: str, why: str, fix: str = "") -> Finding:
    """Nobody could look."""
    return Finding(area, what, State.unknown, why, fix)
