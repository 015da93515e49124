"""The tensors of each architecture, as converters write them and the engine loads them.

An architecture that is not in `TABLES` has no memory model here: it is refused, never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.architectures import dense, encoders, experts, hybrid
from berth.engine.architectures.table import FEATURES, Table, features_of
from berth.errors import UnknownArchitecture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from berth.engine.hyperparameters import Hyperparameters

__all__ = ["ENCODERS", "FEATURES", "TABLES", "check", "features_of", "table"]

TABLES: dict[str, Callable[[Table], None]] = {
    "llama": dense.llama,
    "mistral3": dense.llama,
    "granite": dense.llama,
    "granitemoe": dense.llama,
    "smollm3": dense.llama,
    "falcon": dense.falcon,
    "phi2": dense.phi2,
    "phi3": dense.phi3,
    "qwen2": dense.qwen2,
    "qwen2vl": dense.qwen2,
    "qwen3": dense.qwen3,
    "qwen3vl": dense.qwen3,
    "gemma": dense.gemma,
    "gemma2": dense.gemma,
    "gemma3": dense.gemma,
    "gemma-embedding": dense.gemma,
    "olmo2": dense.olmo2,
    "command-r": dense.cohere,
    "cohere2": dense.cohere,
    "starcoder2": dense.starcoder2,
    "glm4": dense.glm4,
    "stablelm": dense.stablelm,
    "seed_oss": dense.seed_oss,
    "exaone4": dense.exaone4,
    "qwen2moe": experts.qwen2moe,
    "qwen3moe": experts.qwen3moe,
    "qwen3vlmoe": experts.qwen3moe,
    "gpt-oss": experts.gpt_oss,
    "deepseek2": experts.deepseek2,
    "mistral4": experts.deepseek2,
    "glm4moe": experts.glm4moe,
    "minimax-m2": experts.minimax_m2,
    "olmoe": experts.olmoe,
    "phimoe": experts.phimoe,
    "gemma4": experts.gemma4,
    "granitehybrid": hybrid.granitehybrid,
    "nemotron_h": hybrid.nemotron_h,
    "nemotron_h_moe": hybrid.nemotron_h,
    "lfm2": hybrid.lfm2,
    "lfm2moe": hybrid.lfm2,
    "qwen35": hybrid.qwen35,
    "qwen35moe": hybrid.qwen35,
    "qwen3next": hybrid.qwen35,
    "bert": encoders.bert,
    "nomic-bert": encoders.nomic_bert,
    "modern-bert": encoders.modern_bert,
}

ENCODERS = frozenset({"bert", "nomic-bert", "modern-bert"})
"""Architectures without an output matrix: they give embeddings or a score."""


def check(architecture: str) -> None:
    """Raise UnknownArchitecture for what has no memory model."""
    if architecture not in TABLES:
        raise UnknownArchitecture(
            f"there is no memory model of the architecture {architecture!r}; known are: "
            + ", ".join(sorted(TABLES))
        )


def table(numbers: Hyperparameters, features: Mapping[str, bool]) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of a model's tensors.

    Raises:
        UnknownArchitecture: there is no table of it.
        CatalogError: a feature is unknown, or a key of the metadata is missing.
    """
    check(numbers.architecture)
    rows = Table(numbers, features)
    TABLES[numbers.architecture](rows)
    return rows.rows
