"""The work behind `berth size`: a preset or a file's header becomes figures."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth import models, projectors
from berth.engine import gguf, memory
from berth.engine.overhead import compute_capability
from berth.entries import Projector
from berth.errors import BerthError, InvalidGguf, InvalidSettings
from berth.quantities import gib
from generator import own, terminal
from generator import projectors as described

if TYPE_CHECKING:
    from berth.engine.layouts import Layout
    from berth.engine.settings import Images
    from berth.plans import Memory


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's arguments; None where the preset or the model decides."""

    model: str
    quantization: str | None
    context: int | None
    parallel: int
    cache_type_k: str
    cache_type_v: str
    batch: int | None
    ubatch: int | None
    flash_attention: bool
    kv_unified: bool
    gpus: int
    gpu: str | None
    mmproj: str | None = None
    image_max_tokens: int | None = None
    fleet: Path | None = None


@dataclass(frozen=True, slots=True)
class Sized:
    """The figures of one model, with the settings that they are for."""

    model: str
    quantization: str
    settings: memory.Settings
    memory: Memory
    with_overhead: bool
    """Whether a GPU was named, so that the figures hold what CUDA adds on it."""
    warnings: tuple[str, ...]


def size(asked: Asked) -> Sized:
    """Return the memory of a preset or of a GGUF file on disk.

    Raises:
        BerthError: no such model, no GGUF file, or settings that the engine refuses.
    """
    name, quantization, layout, default_context, embeds = _subject(asked)
    per_slot = default_context
    trained = memory.trained_context(layout)
    images = _images(asked)
    ubatch = asked.ubatch or 512
    # llama-server lowers the batch of an embedding model to the physical one.
    batch = ubatch if embeds else asked.batch or 2048
    settings = memory.Settings(
        context=asked.context or per_slot * asked.parallel,
        parallel=asked.parallel,
        cache_type_k=asked.cache_type_k.lower(),
        cache_type_v=asked.cache_type_v.lower(),
        flash_attention=asked.flash_attention,
        kv_unified=asked.kv_unified,
        ubatch=ubatch,
        batch=batch,
        embeddings=embeds,
        gpus=asked.gpus,
        images=images,
    )
    if images is not None and images.at_once > min(batch, ubatch):
        raise InvalidSettings(
            f"an image's {images.at_once} tokens are computed at once; raise batch and ubatch"
        )
    warnings = list(memory.check_settings(layout, settings))
    slot = settings.context if settings.kv_unified else settings.context // settings.parallel
    if slot > trained:
        warnings.append(f"{slot} tokens per slot are beyond the {trained} that the model was trained for")
    if asked.gpu is not None and compute_capability(asked.gpu) is None:
        warnings.append(
            f"no GPU is known as {asked.gpu!r}, so CUDA is counted as on the newest; see `berth skus`"
        )
    figures = memory.footprint(layout, settings, memory.overhead(asked.gpu))
    return Sized(name, quantization, settings, figures, asked.gpu is not None, tuple(warnings))


def _images(asked: Asked) -> Images | None:
    """What images take with the preset's own projector, or with that of a file."""
    if asked.mmproj is None:
        if asked.image_max_tokens is not None:
            raise BerthError("--image-max-tokens means nothing without --mmproj")
        return None
    known = None
    if asked.mmproj.lower().endswith(".gguf"):
        path = Path(asked.mmproj)
        known = Projector.model_validate(described.describe(path, header(path)))
    elif asked.mmproj != PRESETS_OWN:
        raise BerthError(f"--mmproj {asked.mmproj} is neither a .gguf file nor the word {PRESETS_OWN}")
    elif not _is_file(asked.model):
        known = own.catalog(asked.fleet).model(asked.model).projector
    if known is None:
        raise BerthError(f"nothing says what images take with {asked.model}; name the projector's file")
    return projectors.measure(known, asked.image_max_tokens, flash_attention=asked.flash_attention)


def _is_file(model: str) -> bool:
    return Path(model).suffix.lower() == ".gguf" or Path(model).is_file()


def _subject(asked: Asked) -> tuple[str, str, Layout, int, bool]:
    path = Path(asked.model)
    if _is_file(asked.model):
        if asked.quantization is not None:
            raise BerthError("a GGUF file has its quantization already; leave out --quantization")
        model = models.from_header(path.stem, *(header(part) for part in parts(path)))
        return (
            path.name,
            model.default_quantization,
            model.layout(),
            model.default_context,
            model.task in _EMBEDS,
        )
    preset = own.catalog(asked.fleet).model(asked.model)
    quantization = preset.quantization(asked.quantization or preset.default_quantization)
    return (
        preset.name,
        quantization,
        preset.layout(quantization),
        preset.default_context,
        preset.task in _EMBEDS,
    )


def parts(path: Path) -> list[Path]:
    """Return all files of a split model, whichever of them is named; the engine finds them the same way."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    names = (f"{match[1]}-{number:05}-of-{match[2]}.gguf" for number in range(1, int(match[2]) + 1))
    return [found for found in map(path.with_name, names) if found.is_file()] or [path]


def header(path: Path) -> gguf.Header:
    """Return what a GGUF file says about itself."""
    with path.open("rb") as stream:
        try:
            return gguf.read_header(stream, path.stat().st_size)
        except InvalidGguf as error:
            raise InvalidGguf(f"{path}: {error}") from None


PRESETS_OWN = "preset"
"""What `--mmproj` says instead of a file."""
_PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
_EMBEDS = ("embedding", "rerank")


def to_json(sized: Sized) -> str:
    """The document of `berth size --format json`; all amounts are bytes."""
    settings = sized.settings
    figures = sized.memory.to_json()
    document: dict[str, Any] = {
        "model": sized.model,
        "quantization": sized.quantization,
        "settings": {
            "context": settings.context,
            "parallel": settings.parallel,
            "cacheTypeK": settings.cache_type_k,
            "cacheTypeV": settings.cache_type_v,
            "batch": settings.batch,
            "ubatch": settings.ubatch,
            "flashAttention": settings.flash_attention,
            "kvUnified": settings.kv_unified,
            "gpus": settings.gpus,
        },
        "gpus": figures["gpus"],
        "host": figures["host"],
        "unit": "bytes",
        "warnings": list(sized.warnings),
    }
    return json.dumps(document, indent=2)


def show(sized: Sized) -> None:
    """Print the figures as a table, one row a GPU."""
    settings = sized.settings
    console = terminal.console()
    console.print(
        f"[bold]{sized.model}[/bold] {sized.quantization}: {settings.context} tokens in {settings.parallel} "
        f"slot{'s' if settings.parallel > 1 else ''}, KV cache {settings.cache_type_k}/"
        f"{settings.cache_type_v}, flash attention {'on' if settings.flash_attention else 'off'}",
        highlight=False,
        soft_wrap=True,
    )
    cuda = ("CUDA (estimated)",) if sized.with_overhead else ()
    seeing = ("Projector",) if settings.images is not None else ()
    head = ("", "Weights", "KV cache", "Compute", *seeing, *cuda, "Total")
    rows = []
    for index, gpu in enumerate(sized.memory.gpus):
        extra = (gpu.overhead,) if sized.with_overhead else ()
        beside = (gpu.projector or 0,) if seeing else ()
        amounts = (gpu.weights, gpu.kv_cache, gpu.compute, *beside, *extra, gpu.total)
        rows.append((f"GPU {index}", *map(gib, amounts)))
    host = sized.memory.host
    none = ("",) if sized.with_overhead else ()
    amounts = (host.weights, host.kv_cache, host.compute, *((host.projector or 0,) if seeing else ()))
    rows.append(("host", *map(gib, amounts), *none, gib(host.total)))
    terminal.table(head, rows, whole=head, numbers=True)
    if not sized.with_overhead:
        console.print("These are the engine's own buffers; --gpu A10 adds what CUDA takes.", style="dim")
