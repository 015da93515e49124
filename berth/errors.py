"""Every exception of the core.

* BerthError                 something the caller can act on; its text is fit for a person
  - CatalogError             the catalogue's or the fleet's own data is wrong
    + UnknownModel           no preset of that name
    + UnknownInstanceType    no instance type of that name
    + UnknownQuantization    the model is not offered in that quantization
  - UnknownArchitecture      the planner has no memory model of it, and never guesses
  - UnknownProjector         nor of this type of projector, or it is for sounds
  - InvalidGguf              the file is no GGUF, truncated or hostile
  - InvalidSettings          the engine would refuse to start with these settings
  - InvalidWorkspace         the document is not a Workspace that can be read
  - NoFit                    it does not fit, with the reasons

Problems of a spec are values (`berth.problems.Problem`), not exceptions: they are reported all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.problems import Problem


class BerthError(Exception):
    """Something the caller can act on."""


class CatalogError(BerthError):
    """The catalogue's or the fleet's own data is wrong."""


class UnknownModel(CatalogError):
    """No preset has this name."""


class UnknownInstanceType(CatalogError):
    """No instance type has this name."""


class UnknownQuantization(CatalogError):
    """The model is not offered in this quantization."""


class UnknownArchitecture(BerthError):
    """The planner has no memory model of this architecture."""


class UnknownProjector(BerthError):
    """The planner has no memory model of this type of projector."""


class InvalidGguf(BerthError):
    """The file is not a GGUF file that can be read."""


class InvalidSettings(BerthError):
    """The engine refuses to start with these settings."""


class ProblemsError(BerthError):
    """Carries the problems that explain it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


class InvalidWorkspace(ProblemsError):
    """The document is not a Workspace that can be read."""


class NoFit(ProblemsError):
    """The Workspace is well formed, and no plan satisfies it."""
