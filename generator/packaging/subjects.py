"""What is packaged: the files of one model, where they lie in the image, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from berth import models
from berth.engine import gguf
from berth.errors import InvalidGguf
from berth.plans import Weights
from berth.spec import formats
from generator import own, projectors
from generator.charts import weights as supplies
from generator.packaging.errors import PackagingError

if TYPE_CHECKING:
    from berth.engine.gguf import Header
    from berth.entries import File
    from berth.models import Model

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Part:
    """One file, and its path in the image without a leading slash."""

    file: Path
    path: str
    size: int


@dataclass(frozen=True)
class Subject:
    """A model to package. `sha256` is what the catalogue promises of its first file."""

    parts: tuple[Part, ...]
    title: str
    architecture: str | None
    quantization: str | None = None
    license: str | None = None
    source: str | None = None
    revision: str | None = None
    preset: str | None = None
    sha256: str | None = None
    adapter: bool = False
    """Whether it is a LoRA adapter and no model."""
    certain: bool = False
    """Whether the user named the preset, or the file's name alone led to it."""

    def without_preset(self) -> Subject:
        """The same files with what they say themselves, for those that turn out to be others."""
        return read(self.parts[0].file, path=self.parts[0].path, guess=False)


def read(
    file: Path,
    *,
    preset: str | None = None,
    quantization: str | None = None,
    path: str | None = None,
    guess: bool = True,
) -> Subject:
    """Return what is known of a model: by the catalogue if it names this file, else by the file's own header.

    Args:
        file: the GGUF file, the first one of a split model.
        preset: the preset that it belongs to; by default the one whose file has this name.
        quantization: of the preset; by default what the header says.
        path: of the first file in the image; by default where the preset's Workspaces look for it.
        guess: whether the file's name may lead to a preset.

    Raises:
        BerthError: a part is missing or no GGUF file, or there is no such preset.
    """
    files = [file.with_name(name) for name in _names(file.name)]
    headers = [_header(part) for part in files]
    metadata = min(headers, key=lambda header: header.split_number).metadata
    found = models.FILE_TYPES.get(metadata.get("general.file_type", -1))
    model, published = None, None
    if preset is not None:
        model = own.catalog().model(preset)
        name = model.quantization(quantization or found or model.default_quantization)
        published = model.quantizations[name]
        found = name
    elif guess:
        model, found, published = _published(file.name) or (None, found, None)
    paths = _names(_inside(path or (published.file if published else file.name)))
    if len(paths) != len(files):
        raise PackagingError(
            f"the model has {len(files)} file{'s' if len(files) > 1 else ''}, and Workspaces look for "
            f"{len(paths)}: {paths[0]}; --path names another place"
        )
    parts = tuple(Part(part, inside, part.stat().st_size) for part, inside in zip(files, paths, strict=True))
    return Subject(
        parts=parts,
        title=model.title if model else str(metadata.get("general.name", file.stem)),
        architecture=_text(metadata, "general.architecture"),
        quantization=found,
        license=(model.license if model else None) or _text(metadata, "general.license"),
        source=(f"{HUB}/{published.repository}" if published and published.repository else None)
        or next(filter(None, (_text(metadata, key) for key in _SOURCES)), None),
        revision=published.revision if published else None,
        preset=model.name if model else None,
        sha256=published.sha256 if published else None,
        adapter=metadata.get("general.type") == "adapter",
        certain=preset is not None,
    )


def projector(file: Path, model: str) -> Part:
    """Return the part of an image that lets the model in it take images; it lies beside the model.

    Args:
        file: the projector's GGUF file.
        model: path of the model in the image.

    Raises:
        BerthError: it is no projector, or one that no plan counts.
    """
    projectors.describe(file, _header(file))
    inside = _inside(str(PurePosixPath(model).parent / file.name))
    return Part(file, inside, file.stat().st_size)


_SOURCES = ("general.source.url", "general.repo_url", "general.url", "general.source.repo_url")
"""Where converters write the origin, the nearest first."""


def _names(name: str) -> list[str]:
    return supplies.files(Weights(file=name, size=0))


def _inside(path: str) -> str:
    inside = path.lstrip("/")
    if fault := formats.GGUF_FILE.fault(inside):
        raise PackagingError(
            f"{fault}, so no Workspace could name it; --path names another place in the image"
        )
    return inside


def _header(file: Path) -> Header:
    with file.open("rb") as stream:
        try:
            return gguf.read_header(stream, file.stat().st_size)
        except InvalidGguf as error:
            raise InvalidGguf(f"{file}: {error}") from None


def _published(name: str) -> tuple[Model, str, File] | None:
    """The one preset whose file has this name."""
    found = [
        (model, quantization, published)
        for model in own.catalog().models
        for quantization, published in model.quantizations.items()
        if published.repository is not None and PurePosixPath(published.file).name == name
    ]
    return found[0] if len(found) == 1 else None


def _text(metadata: Any, key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


def must_match(subject: Subject, sha256: str) -> Subject:
    """Return the subject, without the preset that only the name pointed to if the content is another.

    Raises:
        BerthError: the user named the preset.
    """
    if subject.sha256 in (None, sha256):
        return subject
    if subject.certain:
        raise PackagingError(
            f"{subject.parts[0].file} is not {subject.preset}'s {subject.quantization}: "
            f"its sha256 is {sha256}, and the catalogue has {subject.sha256}"
        )
    return subject.without_preset()
