"""The page docs/reference/presets.md, made from the catalogue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from berth import catalog
from berth.engine.architectures import FEATURES
from berth.quantities import gib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.models import Model

INTRODUCTION = """\
# Presets

<!-- Made by `make docs` from presets/models; do not edit. -->

{count} models. A Workspace names one of them in `inference.preset.name`, by its name or by any alias, in any
case. `berth explain NAME` shows what it needs; `berth size NAME` its memory at any setting.

- **Parameters** are counted from the tensor table that sizes the model. A test compares the count with the
  published one and fails beyond 0.5 %; most agree to the last digit.
- **Context** is what the model was trained for. Where a spec gives no `contextSize`, a slot of a chat model
  gets 8,192 tokens, or all where it was trained for less; an embedding model gets its own context.
- **Task** says *images* where the projector is known, which `inference.llamacpp.mmproj` takes
  ([guide](../guides/images.md)).
- **Weights** is the size of all tensors in the default quantization. The hub's column lists the quantizations
  whose file is known to be published; the others come from an image or a volume
  (`inference.llamacpp.weights`). ¹ means that the SHA-256 is known, and the download is checked against it.
- **Licence**: *gated* means that the publisher's own repository asks for acceptance. Quantized files usually
  stand in somebody else's repository, which does not lift the licence.
- **Source** is where the architecture's numbers stand. Pages of huggingface.co were read as copies in public
  repositories, on the day given; where that was not the model's own `config.json`, the numbers are confirmed
  by the count of parameters alone. Names of files follow the publishing account's pattern.
"""

OWN_MODEL = """\
## A model of your own

An entry under `models` in `berth.yaml` has the shape of those in `presets/models`. `metadata` are the keys of
the GGUF file as its header has them (`berth size FILE.gguf` reads them from the file itself), `features` say
what the file's tensors have beyond the usual of the architecture. `{{Q}}` and `{{q}}` in a file's name stand
for the quantization. An entry goes before a preset of the same name.

```yaml
models:
- name: tinyllama-1.1b-chat
  title: TinyLlama 1.1B Chat
  aliases: [TinyLlama/TinyLlama-1.1B-Chat-v1.0]
  task: chat
  license: apache-2.0
  licenseUrl: https://www.apache.org/licenses/LICENSE-2.0
  metadata:
    general.architecture: llama
    llama.block_count: 22
    llama.context_length: 2048
    llama.embedding_length: 2048
    llama.feed_forward_length: 5632
    llama.attention.head_count: 32
    llama.attention.head_count_kv: 4
    llama.rope.dimension_count: 64
  vocabulary: 32000
  quantizations: [F16, Q8_0, Q4_K_M]
  defaultQuantization: Q4_K_M
  files:
  - repository: example/tinyllama-gguf
    file: "tinyllama-1.1b-chat.{{Q}}.gguf"
    quantizations: [Q8_0, Q4_K_M]
```

| feature | meaning |
| --- | --- |
{features}
"""
COLUMNS = (
    "preset", "model", "task", "parameters", "context", "default, weights", "on the hub", "licence", "source",
)  # fmt: skip
UNSUPPORTED = """\
## What KAITO offers and berth cannot serve

| preset of KAITO | why | instead |
| --- | --- | --- |
"""


def text() -> str:
    """Return the page."""
    known = catalog.load()
    families: dict[str, list[Model]] = {}
    for model in known.models:
        families.setdefault(model.family, []).append(model)
    sections = [INTRODUCTION.format(count=len(known.models))]
    sections += ["\n".join(_family(name, families[name])) for name in sorted(families)]
    entries = dict.fromkeys(known.unsupported.values())
    rows = [f"| {', '.join(entry.names)} | {entry.reason} | {entry.instead} |" for entry in entries]
    sections.append(UNSUPPORTED + "\n".join(rows))
    features = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in sorted(FEATURES.items()))
    sections.append(OWN_MODEL.format(features=features))
    return "\n".join(section.rstrip() + "\n" for section in sections)


def _family(name: str, models: list[Model]) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}"
    for model in models:
        yield "| " + " | ".join(_cells(model)) + " |"
    yield ""


def _cells(model: Model) -> tuple[str, ...]:
    layout = model.layout()
    parameters = sum(math.prod(tensor.shape) for tensor in layout.tensors)
    aliases = ", ".join(f"`{alias}`" for alias in model.aliases)
    published = [
        f"{name}{'¹' if file.sha256 else ''}" for name, file in model.quantizations.items() if file.repository
    ]
    licence = f"[{model.license}]({model.license_url}){', gated' if model.gated else ''}"
    return (
        f"`{model.name}`",
        f"{model.title}<br>{aliases}",
        f"{model.task}, images" if model.projector else model.task,
        _count(parameters),
        f"{model.trained_context:,}",
        f"{model.default_quantization}, {gib(layout.size)}",
        ", ".join(published) or "none",
        licence,
        f"[{model.as_of}]({model.source})",
    )


def _count(parameters: int) -> str:
    if parameters >= 1e9:
        return f"{parameters / 1e9:,.2f} B"
    return f"{parameters / 1e6:,.1f} M"


if __name__ == "__main__":
    print(text(), end="")
