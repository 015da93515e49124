"""`inference.llamacpp`: what is berth's own in a Workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from berth import flags
from berth.spec import adapters, formats, mmproj, pods
from berth.spec.nodes import Field, Sequence, Struct
from berth.spec.texts import code, listed
from berth.spec.values import Boolean, Integer, Text

if TYPE_CHECKING:
    from berth.problems import Path
    from berth.spec.reports import Report

CACHE_TYPES = ("f16", "bf16", "q8_0", "q4_0")
"""What the engine's CUDA builds have flash attention for, K and V of one type."""

MOST_TOKENS = 2**24
MOST_SLOTS = 256
"""The engine's own limit on sequences."""

DEFAULTS: dict[str, Any] = {"parallel": 4, "cacheTypeK": "f16", "cacheTypeV": "f16"}
"""What an absent field means whatever the preset and the nodes are."""

_SOURCES = ("hf", "image", "pvc")
_ONLY_WITH = {"revision": "hf", "tokenSecret": "hf", "pullSecrets": "image", "stamp": "pvc"}


def _judge_weights(weights: dict[str, Any], path: Path, report: Report) -> None:
    given = [name for name in _SOURCES if name in weights]
    broken = any((*path, name) in report.broken for name in _SOURCES)
    if len(given) > 1:
        report.error(
            path, None, f"weights come from {listed(given, 'and')} at once", "keep one of them", "conflict"
        )
        return
    if not given:
        if not broken:
            report.error(path, None, "weights have no source", f"give one of {listed(_SOURCES)}", "missing")
        return
    for name, source in _ONLY_WITH.items():
        if name in weights and source not in given:
            report.error(
                (*path, name),
                weights[name],
                f"`{name}` means nothing with `{given[0]}`",
                f"remove it, or use `{source}`",
                "conflict",
            )
    if weights.get("stamp") and "pvc" in given and "sha256" not in weights:
        report.error(
            (*path, "stamp"),
            True,
            "without `sha256` nothing is hashed, so there is nothing to note",
            "add the file's `sha256`, or remove `stamp`",
            "conflict",
        )
    if given[0] != "hf" and "file" not in weights and (*path, "file") not in report.broken:
        report.error(
            (*path, "file"),
            None,
            f"`file` is missing: `{given[0]}` may hold many",
            "add the path of the `.gguf` file in it",
            "missing",
        )


WEIGHTS = Struct(
    {
        "hf": Field(Text(formats.HF_REPOSITORY), "Hugging Face repository that holds the GGUF file."),
        "revision": Field(Text(formats.REVISION), "Git revision of the repository; only with `hf`."),
        "tokenSecret": Field(
            Text(formats.DNS_SUBDOMAIN), "Secret whose key `HF_TOKEN` opens the repository; only with `hf`."
        ),
        "image": Field(Text(formats.IMAGE), "Container image that holds the GGUF file."),
        "pullSecrets": Field(pods.SECRET_NAMES, "Secrets for pulling the image; only with `image`."),
        "pvc": Field(Text(formats.DNS_SUBDOMAIN), "PersistentVolumeClaim that holds the GGUF file."),
        "file": Field(
            Text(formats.GGUF_FILE),
            "Path of the GGUF file in the source, the first part of a split model. "
            "Absent with `hf`: the preset's file name.",
        ),
        "sha256": Field(Text(formats.SHA256), "SHA-256 of the file, checked before it is served."),
        "stamp": Field(
            Boolean(),
            "Whether the checked `sha256` is noted beside the file, so that one pod hashes it and not each; "
            "only with `pvc`, which must then be writable.",
            default="false",
        ),
    },
    rules=(
        (
            "[has(self.hf), has(self.image), has(self.pvc)].filter(x, x).size() == 1",
            "give exactly one of hf, image and pvc",
        ),
        (
            "has(self.hf) || (!has(self.revision) && !has(self.tokenSecret))",
            "revision and tokenSecret need hf",
        ),
        ("has(self.image) || !has(self.pullSecrets)", "pullSecrets need image"),
        ("has(self.hf) || has(self.file)", "file is needed with image and pvc"),
        ("!has(self.stamp) || has(self.pvc)", "stamp needs pvc"),
        ("!has(self.stamp) || !self.stamp || has(self.sha256)", "stamp needs sha256"),
    ),
    verdict=_judge_weights,
    hints={
        "mmproj": "move it to `inference.llamacpp.mmproj`",
        "repository": "write `hf`",
        "huggingface": "write `hf`",
        "url": "write `hf`, `image` or `pvc`",
    },
)


def _judge_arguments(arguments: tuple[str, ...], path: Path, report: Report) -> None:
    if any(len(broken) > len(path) and broken[: len(path)] == path for broken in report.broken):
        return
    for fault in flags.faults(arguments):
        report.error((*path, fault.position), arguments[fault.position], fault.reason, fault.fix, fault.rule)


_K = "(has(self.cacheTypeK) ? self.cacheTypeK : 'f16')"
_V = "(has(self.cacheTypeV) ? self.cacheTypeV : 'f16')"

LLAMACPP = Struct(
    {
        "quantization": Field(
            Text(longest=32),
            "Quantization of the weights, one that the preset offers, in any case. Absent: the preset's.",
        ),
        "contextSize": Field(
            Integer(1, MOST_TOKENS, word="auto"),
            "Tokens per slot, or `auto` for the largest that fits. Absent: the preset's.",
        ),
        "parallel": Field(Integer(1, MOST_SLOTS), "Slots that are served at once.", default="4"),
        "cacheTypeK": Field(Text(choices=CACHE_TYPES), "Type of the KV cache's keys.", default="f16"),
        "cacheTypeV": Field(Text(choices=CACHE_TYPES), "Type of the KV cache's values.", default="f16"),
        "replicas": Field(
            Integer(1, 1000),
            "Copies of the model. Absent: as many as the given nodes hold, and one "
            "where the planner chooses the nodes.",
        ),
        "weights": Field(
            WEIGHTS, "Where the GGUF file comes from. Absent: the fleet's source, then the preset's."
        ),
        "adapters": Field(
            adapters.FILES, "File and size of each adapter in `inference.adapters`, by its name."
        ),
        "mmproj": Field(
            mmproj.MMPROJ,
            "Takes images too, with the projector that the model's entry describes; `{}` is enough where "
            "that names its file. Absent: text alone.",
        ),
        "extraArgs": Field(
            Sequence(Text(longest=4096), most=64),
            "Further arguments of llama-server, one entry each. Flags that the plan sets are refused.",
            verdict=_judge_arguments,
        ),
        "pod": Field(pods.POD, "What is added to every pod, on top of the fleet's."),
        "expose": Field(
            pods.EXPOSE, "How the Service is reached from outside the cluster. Absent: not at all."
        ),
    },
    rules=((f"{_K} == {_V}", "cacheTypeK and cacheTypeV have to be the same; absent is f16"),),
    hints={
        "context": "write `contextSize`",
        "ctxSize": "write `contextSize`",
        "slots": "write `parallel`",
        "quant": "write `quantization`",
        "args": "write `extraArgs`",
        "projector": "write `mmproj`",
        "tolerations": "move it to `inference.llamacpp.pod.tolerations`",
        "labels": "move it to `inference.llamacpp.pod.labels`",
    },
)

PRESET_ONLY = (
    "quantization", "contextSize", "parallel", "cacheTypeK", "cacheTypeV", "weights", "adapters", "mmproj",
    "extraArgs",
)  # fmt: skip
"""Fields that mean nothing for a pod template of the user's own."""


TEMPLATE_RULE = (
    "!has(self.template) || !has(self.llamacpp) || !("
    + " || ".join(f"has(self.llamacpp.{name})" for name in PRESET_ONLY)
    + ")",
    f"{', '.join(PRESET_ONLY)} mean nothing with template",
)


def judge_with_template(llamacpp: dict[str, Any], path: Path, report: Report) -> None:
    """Refuse the fields that a template leaves without meaning."""
    for name in PRESET_ONLY:
        if name in llamacpp:
            report.error(
                (*path, name),
                llamacpp[name],
                f"{code(name)} means nothing with `inference.template`",
                "remove it, or use `inference.preset`",
                "conflict",
            )
