"""The graphs of each architecture, as the engine builds them to find out how much memory they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.graphs import delta, dense, encoders, experts, recurrent, windows
from berth.errors import UnknownArchitecture

if TYPE_CHECKING:
    from berth.engine.graphs.attention import Architecture

GRAPHS: dict[str, Architecture] = {
    "llama": dense.llama,
    "mistral3": dense.llama,
    "qwen2": dense.qwen2,
    "qwen2vl": dense.qwen2,
    "qwen3": dense.qwen3,
    "qwen3vl": dense.qwen3vl,
    "qwen3vlmoe": dense.qwen3vl,
    "smollm3": dense.smollm3,
    "seed_oss": dense.seed_oss,
    "starcoder2": dense.starcoder2,
    "phi2": dense.phi2,
    "phi3": dense.phi3,
    "phimoe": dense.phi3,
    "falcon": dense.falcon,
    "command-r": dense.cohere,
    "cohere2": dense.cohere,
    "stablelm": dense.stablelm,
    "gemma": windows.gemma,
    "gemma2": windows.gemma2,
    "gemma3": windows.gemma2,
    "gemma4": windows.gemma4,
    "gemma-embedding": windows.gemma_embedding,
    "olmo2": windows.olmo2,
    "exaone4": windows.exaone4,
    "glm4": windows.glm4,
    "qwen2moe": experts.qwen2moe,
    "qwen3moe": experts.qwen3moe,
    "olmoe": experts.olmoe,
    "minimax-m2": experts.minimax_m2,
    "gpt-oss": experts.gpt_oss,
    "glm4moe": experts.glm4moe,
    "deepseek2": experts.deepseek2,
    "mistral4": experts.deepseek2,
    "granite": recurrent.granite,
    "granitemoe": recurrent.granite,
    "granitehybrid": recurrent.granite,
    "nemotron_h": recurrent.nemotron_h,
    "nemotron_h_moe": recurrent.nemotron_h,
    "lfm2": recurrent.lfm2,
    "lfm2moe": recurrent.lfm2,
    "qwen35": delta.qwen35,
    "qwen35moe": delta.qwen35,
    "qwen3next": delta.qwen35,
    "bert": encoders.bert,
    "nomic-bert": encoders.bert,
    "modern-bert": encoders.modern_bert,
}


def graph_of(architecture: str) -> Architecture:
    """The function that builds an architecture's graph.

    Raises:
        UnknownArchitecture: there is none, and nothing is guessed.
    """
    found = GRAPHS.get(architecture)
    if found is None:
        known = ", ".join(sorted(GRAPHS))
        raise UnknownArchitecture(
            f"there is no memory model of the architecture {architecture!r}; known are: {known}"
        )
    return found
