"""Presets: what the catalogue knows of a model, and how a model of the user's own becomes one.

An entry (`berth.entries`) is YAML data. A `Model` is what the planner asks: the numbers as GGUF metadata,
the quantizations with the files that hold them, and the layout (every tensor with its type) of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from berth.engine import layouts
from berth.entries import Entry, File, InvalidEntry, problems_of
from berth.errors import UnknownArchitecture, UnknownQuantization
from berth.plans import Task, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from berth.engine.gguf import Header
    from berth.engine.layouts import Layout
    from berth.entries import Parameters, Projector, Source
    from berth.problems import Path

__all__ = ["InvalidEntry", "Model", "from_entry", "from_header", "parse"]

PROJECTOR = "clip"
"""What a projector's file gives as its architecture."""
LONGEST_DEFAULT_CONTEXT = 8192
"""Tokens per slot where a spec names none: enough for chat, and a KV cache that a small GPU holds."""


@dataclass(frozen=True)
class Model:
    """A preset, or a model of the user's own."""

    name: str
    title: str
    aliases: tuple[str, ...]
    family: str
    task: Task
    license: str
    license_url: str | None
    gated: bool
    trained_context: int
    """Tokens per sequence that the model was trained for."""
    default_context: int
    """Tokens per slot where a spec names none."""
    metadata: Mapping[str, Any]
    vocabulary: int
    features: Mapping[str, bool]
    quantizations: Mapping[str, File]
    default_quantization: str
    projector: Projector | None = None
    """The file with which the model takes images, where one is known."""
    published_parameters: Parameters | None = None
    sources: tuple[Source, ...] = ()
    estimated: bool = False
    fixed_layout: Layout | None = None
    """The layout of a model that comes from a file's own header."""
    _layouts: dict[str, Layout] = field(default_factory=dict, compare=False, repr=False)

    @property
    def architecture(self) -> str:
        """The engine's name of the architecture."""
        return str(self.metadata["general.architecture"])

    @property
    def source(self) -> str | None:
        """Where the architecture's numbers were read."""
        return self.sources[0].url if self.sources else None

    @property
    def as_of(self) -> str | None:
        """The date of that source."""
        return self.sources[0].date.isoformat() if self.sources else None

    @property
    def names(self) -> tuple[str, ...]:
        """The name and every alias."""
        return (self.name, *self.aliases)

    def quantization(self, name: str) -> str:
        """Return the quantization of this name in any case.

        Raises:
            UnknownQuantization: the model is not offered in it.
        """
        for offered in self.quantizations:
            if offered.casefold() == name.casefold():
                return offered
        offered_names = ", ".join(self.quantizations)
        raise UnknownQuantization(
            f"{self.name} is not offered in the quantization {name!r}; write one of {offered_names}"
        )

    def layout(self, quantization: str | None = None) -> Layout:
        """Return every tensor with its type, in one of the model's quantizations; kept once made."""
        if self.fixed_layout is not None:
            return self.fixed_layout
        name = self.quantization(quantization or self.default_quantization)
        found = self._layouts.get(name)
        if found is None:
            found = layouts.preset(self.metadata, name, vocabulary=self.vocabulary, features=self.features)
            self._layouts[name] = found
        return found

    @cached_property
    def digest(self) -> str:
        """Changes exactly when something changes that a plan for text depends on, so not with a title."""
        return digest(
            {
                "name": self.name,
                "task": self.task,
                "defaultContext": self.default_context,
                "metadata": {key: value for key, value in self.metadata.items() if _is_plain(value)},
                "vocabulary": self.vocabulary,
                "features": dict(self.features),
                "quantizations": {name: file.to_json() for name, file in self.quantizations.items()},
                "defaultQuantization": self.default_quantization,
            }
        )


def from_entry(entry: Entry) -> Model:
    """Return the model that an entry describes."""
    architecture = entry.metadata["general.architecture"]
    trained = int(entry.metadata[f"{architecture}.context_length"])
    default = trained if entry.task in ("embedding", "rerank") else min(trained, LONGEST_DEFAULT_CONTEXT)
    return Model(
        name=entry.name,
        title=entry.title or entry.name,
        aliases=entry.aliases,
        family=entry.family or architecture,
        task=entry.task,
        license=entry.license,
        license_url=entry.license_url,
        gated=entry.gated,
        trained_context=trained,
        default_context=entry.default_context or default,
        metadata=entry.metadata,
        vocabulary=entry.vocabulary,
        features=entry.features,
        quantizations={name: _file(entry, name) for name in entry.quantizations},
        default_quantization=entry.default_quantization,
        projector=entry.projector,
        published_parameters=entry.published_parameters,
        sources=entry.sources,
        estimated=entry.estimated,
    )


def parse(document: Any, path: Path = ()) -> Model:
    """Read one model from the data of an entry.

    Raises:
        InvalidEntry: with every problem and its path.
    """
    try:
        return from_entry(Entry.model_validate(document))
    except ValidationError as error:
        raise InvalidEntry(problems_of(error, path, "model")) from None


def from_header(name: str, *headers: Header) -> Model:
    """Return the model that a GGUF file's own header describes, or those of all parts of a split one.

    Raises:
        UnknownArchitecture: berth does not know to count it, or it is no model.
    """
    if headers[0].metadata.get("general.architecture") == PROJECTOR:
        raise UnknownArchitecture(
            f"{name} is a projector (mmproj) and no model; `berth explain` describes it"
        )
    layout = layouts.from_headers(headers)
    numbers = layout.hyperparameters
    metadata = min(headers, key=lambda header: header.split_number).metadata
    task = _task(metadata, numbers.architecture)
    trained = numbers.trained_context
    quantization = str(FILE_TYPES.get(metadata.get("general.file_type", -1), "as in the file"))
    return Model(
        name=name,
        title=str(metadata.get("general.name", name)),
        aliases=(),
        family=numbers.architecture,
        task=task,
        license=str(metadata.get("general.license", "")),
        license_url=None,
        gated=False,
        trained_context=trained,
        default_context=trained if task in ("embedding", "rerank") else min(trained, LONGEST_DEFAULT_CONTEXT),
        metadata=metadata,
        vocabulary=numbers.vocabulary,
        features={},
        quantizations={quantization: File(file=name)},
        default_quantization=quantization,
        fixed_layout=layout,
    )


FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16", 38: "MXFP4_MOE",
}  # fmt: skip
"""The engine's numbers of file types, `general.file_type`."""
_RANK_POOLING = 4


def _task(metadata: Mapping[str, Any], architecture: str) -> Task:
    pooling = metadata.get(f"{architecture}.pooling_type")
    if pooling == _RANK_POOLING:
        return "rerank"
    if pooling or metadata.get(f"{architecture}.attention.causal") is False:
        return "embedding"
    return "chat" if metadata.get("tokenizer.chat_template") else "completion"


def _file(entry: Entry, quantization: str) -> File:
    for files in entry.files:
        if quantization in files.quantizations:
            return File.model_validate(files.of(quantization))
    return File(file=f"{entry.name}-{quantization}.gguf")


def _is_plain(value: Any) -> bool:
    """Whether a value can stand in a digest; summaries of a header's long arrays cannot."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
