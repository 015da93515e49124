"""A model of one's own as an entry for `berth.yaml`, its numbers read from the header of its GGUF file."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, get_args

from berth import models
from berth.engine import architectures
from berth.entries import Quantization
from berth.errors import BerthError
from generator import projectors, sizes, texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from berth.engine.gguf import Header
    from berth.models import Model

_LONGEST_NAME = 63


def explain(path: Path, *, as_json: bool) -> None:
    """Print the entry; say how to use it.

    Raises:
        BerthError: the file is no model, and no projector, that berth knows to count.
    """
    headers = [sizes.header(part) for part in sizes.parts(path)]
    if projectors.is_projector(headers[0]):
        projectors.explain(path, headers[0], as_json=as_json)
        return
    entry = describe(path)
    text = json.dumps(entry, indent=2) if as_json else texts.document({"models": [entry]}).rstrip()
    print(text, flush=True)
    print(
        f"{entry['name']}: this belongs into berth.yaml, below the `models:` of others if there are any; say "
        "in inference.llamacpp.weights of a Workspace where the file is; `berth check` says what is missing",
        file=sys.stderr,
    )


def describe(path: Path) -> dict[str, Any]:
    """Return a model's entry, having seen that berth counts every tensor of it as the file has it.

    Raises:
        BerthError: it is no model that berth knows to count.
    """
    headers = [sizes.header(part) for part in sizes.parts(path)]
    found = models.from_header(path.stem, *headers)
    quantization = found.default_quantization
    if quantization not in get_args(Quantization):
        raise BerthError(f"{path}: its quantization ({quantization}) is none that a preset may have")
    entry: dict[str, Any] = {
        "name": _name(path, quantization),
        "title": found.title,
        "task": found.task,
        **({"license": found.license} if found.license else {}),
        "metadata": _numbers(found.metadata),
        "vocabulary": found.vocabulary,
        "quantizations": [quantization],
        "defaultQuantization": quantization,
    }
    shown = _features(found)
    short = {name: True for name, there in shown.items() if there}
    # What an entry leaves out is as usual for the architecture, and a file may lack what is usual.
    for features in (short, shown):
        full = {**entry, **({"features": features} if features else {})}
        if (wrong := _wrong(models.parse(full), headers)) is None:
            return full
    raise BerthError(f"{path}: {wrong}; `berth size` counts the file itself")


def _wrong(model: Model, headers: Sequence[Header]) -> str | None:
    """The planner makes tensors from the entry; they have to be the file's, byte for byte."""
    counted = {tensor.name: tensor.size for tensor in model.layout().tensors}
    there = {tensor.name: tensor.size for header in headers for tensor in header.tensors}
    wrong = sorted(name for name in {*counted, *there} if counted.get(name) != there.get(name))
    if not wrong:
        return None
    return (
        f"{len(wrong)} of its {len(there)} tensors are not as in files of {model.default_quantization}, the "
        f"first is {wrong[0]}: an entry would count {sum(counted.values())} bytes, not {sum(there.values())}"
    )


def _numbers(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the architecture; the vocabulary's words and the texts about the model are not needed."""
    architecture = metadata["general.architecture"]
    return {
        "general.architecture": architecture,
        **{
            key: value
            for key, value in metadata.items()
            if key.startswith(f"{architecture}.") or key == "tokenizer.ggml.token_type_count"
        },
    }


def _features(model: Model) -> dict[str, bool]:
    layout = model.layout()
    return dict(sorted(architectures.features_of(layout.hyperparameters, layout.by_name).items()))


def _name(path: Path, quantization: str) -> str:
    """The file's name without its part's number and its quantization, as a preset may be called."""
    name = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
    name = re.sub(rf"[-._]{re.escape(quantization)}$", "", name, flags=re.IGNORECASE)
    name = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:_LONGEST_NAME].rstrip("-._")
    return name or "my-model"
