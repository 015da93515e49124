"""The shape of a model as data, in `presets/models/*.yaml` and under `models` in a fleet file."""

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from berth.errors import CatalogError, ProblemsError
from berth.plans import Frozen, Task, digest
from berth.problems import Path, Problem

Quantization = Literal[
    "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1",
    "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K", "IQ4_XS", "IQ4_NL", "MXFP4_MOE",
]  # fmt: skip


def _url(text: str) -> str:
    if not text.startswith("https://"):
        raise ValueError("a source is an https:// address")
    return text


Url = Annotated[str, AfterValidator(_url)]


class InvalidEntry(ProblemsError, CatalogError):
    """A model, an instance type or a price of the user's own cannot be read."""


class Source(Frozen):
    """Where facts stand, and the day of that version, or of reading it."""

    url: Url
    date: datetime.date


class File(Frozen):
    """A GGUF file of a model; without a repository where none is known to publish it.

    `file` is the path in the repository, the first part of a split file. `sha256` and `size` (bytes) are
    given where a source tells them, so that a download can be pinned.
    """

    repository: str | None = None
    file: str
    revision: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size: Annotated[int, Field(gt=0)] | None = None

    @property
    def location(self) -> str | None:
        """Repository and file in one, None where no repository is known."""
        return f"{self.repository}/{self.file}" if self.repository else None


class Files(Frozen):
    """Files of one repository that are named alike: `{Q}` and `{q}` stand for the quantization's name."""

    repository: str
    file: str
    quantizations: tuple[Quantization, ...]
    revision: str | None = None
    sha256: dict[Quantization, str] = Field(default_factory=dict)
    size: dict[Quantization, int] = Field(default_factory=dict)
    source: Source | None = None

    def of(self, quantization: str) -> dict[str, Any]:
        name = self.file.replace("{Q}", quantization).replace("{q}", quantization.lower())
        return {
            "repository": self.repository,
            "file": name,
            "revision": self.revision,
            "sha256": self.sha256.get(quantization),  # type: ignore[call-overload]
            "size": self.size.get(quantization),  # type: ignore[call-overload]
        }


class Projector(File):
    """What turns images into a model's tokens: a GGUF file of its own, with the metadata that it holds."""

    metadata: dict[str, Any]
    size: Annotated[int, Field(gt=0)]
    sources: tuple[Source, ...] = ()
    estimated: bool = False
    """Whether a number was derived and not read from a source."""

    @property
    def digest(self) -> str:
        """Changes exactly when something changes that a plan can depend on."""
        return digest(self.model_dump(mode="json", exclude_none=True, exclude={"sources", "estimated"}))


class Parameters(Frozen):
    """How many parameters the publisher counts; the completeness test compares the tensors with it.

    `counted_twice` are the elements of a tied output that the publisher's file holds a second time, and
    `not_in_gguf` those of parts that are no part of the GGUF file, such as a vision tower.
    """

    count: Annotated[int, Field(gt=0)]
    counted_twice: int = 0
    not_in_gguf: int = 0
    source: Source


class Entry(Frozen):
    """One model as data."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", max_length=63)]
    title: str = ""
    aliases: tuple[str, ...] = ()
    family: str = ""
    task: Task = "chat"
    license: str = ""
    license_url: Url | None = None
    gated: bool = False
    default_context: Annotated[int, Field(gt=0)] | None = None
    metadata: dict[str, Any]
    vocabulary: Annotated[int, Field(gt=0)]
    features: dict[str, bool] = Field(default_factory=dict)
    """What the file's tensors have beyond the architecture's usual; names: berth.engine.architectures."""
    quantizations: Annotated[tuple[Quantization, ...], Field(min_length=1)]
    default_quantization: Quantization
    files: tuple[Files, ...] = ()
    projector: Projector | None = None
    """The file with which the model takes images; a Workspace names it in `inference.llamacpp.mmproj`."""
    published_parameters: Parameters | None = None
    sources: tuple[Source, ...] = ()
    estimated: bool = False
    """Whether a number was derived and not read from a source."""

    @model_validator(mode="after")
    def _consistent(self) -> "Entry":
        if self.default_quantization not in self.quantizations:
            raise ValueError(
                f"defaultQuantization {self.default_quantization} is not among the quantizations"
            )
        located = [name for files in self.files for name in files.quantizations]
        for name in located:
            if name not in self.quantizations:
                raise ValueError(f"files name {name}, which is not among the quantizations")
            if located.count(name) > 1:
                raise ValueError(f"files name {name} twice")
        architecture = self.metadata.get("general.architecture")
        if not isinstance(architecture, str):
            raise ValueError("metadata has no general.architecture")
        context = self.metadata.get(f"{architecture}.context_length")
        if isinstance(context, bool) or not isinstance(context, int) or context <= 0:
            raise ValueError(f"metadata has no {architecture}.context_length")
        return self


def problems_of(error: ValidationError, path: Path, rule: str) -> list[Problem]:
    """Turn what pydantic found into problems, each with its path below `path`."""
    return [
        Problem((*path, *item["loc"]), _shown(item["input"]), _reason(item), rule=rule)
        for item in error.errors(include_url=False)
    ]


def _shown(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else None


def _reason(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        return "the field is missing"
    if item["type"] == "extra_forbidden":
        return "no model has this field"
    return message[:1].lower() + message[1:]
