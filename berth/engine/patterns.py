"""What an architecture itself fixes: its windows, its recurrent layers, its rotary embedding, its factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from berth.engine.metadata import Reader

WindowKind = Literal["none", "standard", "chunked", "symmetric"]
RopeKind = Literal["none", "norm", "neox", "mrope", "imrope"]

_FINAL_SOFTCAP = {"gemma2": 30.0, "gemma4": 30.0, "gemma3n": 30.0}


def attention_softcap(read: Reader) -> float:
    """Where the logits of attention are capped; 0 where they are not."""
    return read.number("attn_logit_softcapping", 50.0) if read.architecture == "gemma2" else 0.0


def final_softcap(read: Reader) -> float:
    """Where the logits of the output are capped; 0 where they are not."""
    return read.number("final_logit_softcapping", _FINAL_SOFTCAP.get(read.architecture, 0.0))


def alibi_bias(read: Reader) -> float:
    """The largest bias of ALiBi; 0 where the architecture has none."""
    return 8.0 if read.architecture == "jina-bert-v2" else read.number("attention.max_alibi_bias")


_ROPE_NORM = frozenset({
    "llama", "llama4", "deci", "command-r", "cohere2", "deepseek", "deepseek2", "granite", "granitemoe",
    "granitehybrid", "smollm3", "arcee", "ernie4_5", "ernie4_5-moe", "mistral3", "mistral4", "glm4",
    "internlm2", "baichuan", "starcoder", "minicpm", "olmo", "chatglm",
})  # fmt: skip
_ROPE_NONE = frozenset({
    "gpt2", "mpt", "bloom", "mamba", "mamba2", "jina-bert-v2", "nemotron_h", "nemotron_h_moe",
})  # fmt: skip
_ROPE_IMROPE = frozenset({"qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"})


def rope_kind(architecture: str, sections: tuple[int, ...]) -> RopeKind:
    if architecture in _ROPE_NONE:
        return "none"
    if architecture in _ROPE_IMROPE:
        return "imrope"
    sectioned = len(sections) > 1 and sections[0] > 0 and sections[1] > 0
    if architecture == "qwen2vl" or (architecture in ("glm4", "glm4moe") and sectioned):
        return "mrope"
    return "norm" if architecture in _ROPE_NORM else "neox"


_WINDOWS: dict[str, tuple[WindowKind, int, bool, int | None]] = {
    "gemma2": ("standard", 2, False, 4096),
    "gemma3": ("standard", 6, False, 0),
    "gemma3n": ("standard", 5, False, None),
    "gemma-embedding": ("symmetric", 6, False, None),
    "gpt-oss": ("standard", 2, False, None),
    "cohere2": ("standard", 4, False, None),
    "olmo2": ("standard", 4, False, 0),
    "modern-bert": ("symmetric", 3, True, 0),
    "llama4": ("chunked", 4, False, 8192),
    "exaone4": ("standard", 4, False, 4096),
    "gemma4": ("standard", 0, False, None),
}
"""Kind, default period, whether a period starts with a full layer, default window (None: required)."""


def windows(
    read: Reader, layers: int, nextn: int, recurrent: tuple[bool, ...]
) -> tuple[int, WindowKind, tuple[bool, ...]]:
    """The sliding window: its length, its kind, and which layers have it."""
    none = (0, "none", (False,) * layers)
    architecture = read.architecture
    if architecture == "lfm2" and (length := read.integer("attention.sliding_window", 0)):
        return length, "standard", tuple(not entry for entry in recurrent)
    if architecture not in _WINDOWS or (architecture == "exaone4" and layers - nextn != 64):
        return none  # type: ignore[return-value]
    kind, period, dense_first, default = _WINDOWS[architecture]
    window = read.integer("attention.sliding_window", default)
    if window == 0:
        return none  # type: ignore[return-value]
    if architecture == "llama4":
        window = 8192
    pattern = read.array("attention.sliding_window_pattern")
    if pattern is not None:
        if len(pattern) < layers:
            pattern += (0,) * (layers - len(pattern))
        return window, kind, tuple(bool(entry) for entry in pattern[:layers])
    if architecture == "gemma4":
        raise InvalidGguf("gemma4.attention.sliding_window_pattern is missing from the metadata")
    period = read.integer("attention.sliding_window_pattern", period)
    return (
        window,
        kind,
        tuple(
            layer < layers - nextn
            and (period == 0 or (layer % period != 0 if dense_first else layer % period < period - 1))
            for layer in range(layers)
        ),
    )


def recurrent(
    read: Reader, layers: int, nextn: int, kv_heads: tuple[int, ...], feed_forward: tuple[int, ...]
) -> tuple[bool, ...]:
    """Which layers keep a state of fixed size instead of keys and values."""
    architecture = read.architecture
    if architecture in ("mamba", "mamba2"):
        return (True,) * layers
    main = range(layers)
    if architecture in ("granitehybrid", "lfm2", "lfm2moe"):
        return tuple(layer < layers - nextn and kv_heads[layer] == 0 for layer in main)
    if architecture in ("nemotron_h", "nemotron_h_moe"):
        return tuple(
            layer < layers - nextn and kv_heads[layer] == 0 and feed_forward[layer] == 0 for layer in main
        )
    if architecture in ("qwen3next", "qwen35", "qwen35moe"):
        given = read.array("attention.recurrent_layers")
        if given is not None:
            if len(given) != layers:
                raise InvalidGguf(f"{architecture}.attention.recurrent_layers does not have {layers} entries")
            return tuple(bool(entry) for entry in given)
        interval = read.integer("full_attention_interval", 4) or 4
        return tuple(layer < layers - nextn and (layer + 1) % interval != 0 for layer in main)
    return (False,) * layers


def kv_layers(read: Reader, layers: int) -> int:
    """How many layers from the first on keep a cache; -1 for all."""
    if read.architecture == "gemma3n":
        return 20
    if read.architecture == "gemma4":
        return layers - min(read.integer("attention.shared_kv_layers", 0), layers)
    return -1


def no_rope_step(read: Reader, layers: int) -> int:
    """Every how many layers one has no rotary embedding; 0 where all have it."""
    if read.architecture == "smollm3":
        return 4
    if read.architecture == "llama4":
        return layers if read.value("attention.sliding_window") == 0 else 4
    return 0


def q_lora_rank(read: Reader, layers: int, vocabulary: int) -> int:
    """The rank of compressed queries; the engine ignores the key for the small models of the family."""
    if read.architecture in ("deepseek2", "mistral4") and (
        layers in (26, 27) or (layers == 48 and vocabulary == 128256)
    ):
        return 0
    return read.integer("attention.q_lora_rank", 0)
