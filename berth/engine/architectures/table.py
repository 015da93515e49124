"""What the tables of all architectures share: a list of names and shapes, and the usual groups of tensors.

Shapes are in ggml's order. A table holds what a file has that the converter writes today; what only some
models of an architecture have is a feature, which a preset names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from berth.engine.hyperparameters import Hyperparameters

FEATURES: dict[str, str] = {
    "tied": "the output uses the token embedding, so the file has no output.weight",
    "rope_freqs": "rope_freqs.weight, the scaled frequencies of Llama 3.1 and later",
    "rope_factors": "rope_factors_long.weight and rope_factors_short.weight (LongRoPE)",
    "fused_qkv": "attn_qkv.weight in place of attn_q, attn_k and attn_v",
    "qkv_bias": "biases of attn_q, attn_k and attn_v, or of attn_qkv",
    "attention_bias": "attn_output.bias",
    "ffn_bias": "biases of the feed-forward network",
    "output_bias": "output.bias",
    "attention_norm_2": "a second attention norm (Falcon 40B and 180B)",
    "qk_norm": "attn_q_norm and attn_k_norm where the architecture leaves them open",
    "ffn_norm": "ffn_norm where the architecture leaves it open",
    "expert_bias": "exp_probs_b.bias, the correction of the router (DeepSeek V3 and later)",
    "token_types": "token_types.weight of an encoder",
    "classifier_dense": "cls.weight and cls.bias, the pooler of a classifier",
    "classifier": "cls.output.weight of a reranker",
    "classifier_bias": "cls.output.bias of a reranker",
    "conv_bias": "ssm_conv1d.bias",
    "layer_scale": "layer_output_scale.weight (Gemma 4)",
    "shared_values": "full-attention layers without attn_v, which use the keys (Gemma 4)",
    "fused_experts": "ffn_gate_up_exps in place of ffn_gate_exps and ffn_up_exps",
    "dense_projections": "dense_2.weight and dense_3.weight after the pooling (EmbeddingGemma)",
}
"""Everything that a preset can say about its file's tensors, and what it means."""

_SEEN: dict[str, tuple[str, ...]] = {
    "rope_freqs": ("rope_freqs.weight",),
    "rope_factors": ("rope_factors_long.weight",),
    "qkv_bias": ("attn_q.bias", "attn_qkv.bias"),
    "attention_bias": ("attn_output.bias",),
    "ffn_bias": ("ffn_up.bias",),
    "output_bias": ("output.bias",),
    "attention_norm_2": ("attn_norm_2.weight",),
    "qk_norm": ("attn_q_norm.weight",),
    "ffn_norm": ("ffn_norm.weight",),
    "expert_bias": ("exp_probs_b.bias",),
    "token_types": ("token_types.weight",),
    "classifier_dense": ("cls.weight",),
    "classifier": ("cls.output.weight",),
    "classifier_bias": ("cls.output.bias",),
    "conv_bias": ("ssm_conv1d.bias",),
    "layer_scale": ("layer_output_scale.weight",),
    "fused_experts": ("ffn_gate_up_exps.weight",),
    "dense_projections": ("dense_2.weight",),
}
"""The tensors, without a layer's prefix, that show a feature."""


def features_of(numbers: Hyperparameters, names: Iterable[str]) -> dict[str, bool]:
    """The features that a file has, seen from the names of its tensors."""
    names = set(names)
    parts = {name.split(".", 2)[2] if name.startswith("blk.") else name for name in names}
    features = {feature: any(name in parts for name in shown) for feature, shown in _SEEN.items()}
    features["tied"] = "output.weight" not in names
    attention = [layer for layer in range(numbers.main_layers) if not numbers.recurrent[layer]]
    features["fused_qkv"] = any(f"blk.{layer}.attn_qkv.weight" in names for layer in attention)
    features["shared_values"] = any(
        f"blk.{layer}.attn_k.weight" in names and f"blk.{layer}.attn_v.weight" not in names
        for layer in attention
    )
    return features


class Table:
    """The names and shapes of a model's tensors, in the order of the file."""

    def __init__(self, numbers: Hyperparameters, features: Mapping[str, bool]) -> None:
        unknown = sorted(set(features) - set(FEATURES))
        if unknown:
            raise CatalogError(f"unknown feature {unknown[0]!r}; there are: {', '.join(sorted(FEATURES))}")
        self.numbers = numbers
        self.features = features
        self.rows: list[tuple[str, tuple[int, ...]]] = []

    def has(self, feature: str, default: bool = False) -> bool:
        """Whether the preset names a feature, else what is usual for the architecture."""
        return self.features.get(feature, default)

    def add(self, name: str, *shape: int) -> None:
        """One tensor."""
        if min(shape) <= 0:
            raise CatalogError(
                f"{self.numbers.architecture}: {name} would have the shape {shape}; the metadata lacks a key"
            )
        self.rows.append((name, shape))

    # groups of the whole model

    def embedding(self) -> None:
        self.add("token_embd.weight", self.numbers.embedding, self.numbers.vocabulary)

    def output(self, *, norm_bias: bool = False, tied: bool = False) -> None:
        """The last norm, and the output matrix unless it is the token embedding."""
        width = self.numbers.embedding
        self.norm("output_norm", width, bias=norm_bias)
        if not self.has("tied", tied):
            self.add("output.weight", width, self.numbers.vocabulary)
        if self.has("output_bias"):
            self.add("output.bias", self.numbers.vocabulary)

    def rope(self, half: int | None = None) -> None:
        """Frequencies and factors of the rotary embedding; the engine copies them to every device."""
        half = half or self.numbers.rope_dimensions // 2
        if self.has("rope_freqs"):
            self.add("rope_freqs.weight", half)
        if self.has("rope_factors"):
            self.add("rope_factors_long.weight", half)
            self.add("rope_factors_short.weight", half)

    def classifier(self, dense: bool = False) -> None:
        """What a reranker has behind the last layer."""
        width = self.numbers.embedding
        if self.has("classifier_dense", dense):
            self.add("cls.weight", width, width)
            self.add("cls.bias", width)
        outputs = max(self.numbers.classifier_outputs, 1)
        if self.has("classifier"):
            self.add("cls.output.weight", width, outputs)
        if self.has("classifier_bias"):
            self.add("cls.output.bias", outputs)

    # groups of one layer; `at` is its prefix

    def norm(self, name: str, width: int, *, bias: bool = False) -> None:
        self.add(f"{name}.weight", width)
        if bias:
            self.add(f"{name}.bias", width)

    def linear(self, name: str, inner: int, outer: int, *, bias: bool = False) -> None:
        self.add(f"{name}.weight", inner, outer)
        if bias:
            self.add(f"{name}.bias", outer)

    def qkv(
        self, at: str, query: int, key: int, value: int, *, fused: bool = False, bias: bool = False
    ) -> None:
        """The three projections of attention, fused or one by one."""
        width = self.numbers.embedding
        bias = self.has("qkv_bias", bias)
        if self.has("fused_qkv", fused):
            self.linear(f"{at}attn_qkv", width, query + key + value, bias=bias)
            return
        self.linear(f"{at}attn_q", width, query, bias=bias)
        self.linear(f"{at}attn_k", width, key, bias=bias)
        self.linear(f"{at}attn_v", width, value, bias=bias)

    def attention(
        self, layer: int, at: str, *, fused: bool = False, bias: bool = False, out_bias: bool = False
    ) -> None:
        """Projections of plain or grouped attention, with head lengths and head counts of the layer."""
        numbers = self.numbers
        query = numbers.key_head(layer) * numbers.heads[layer]
        self.qkv(at, query, numbers.key_width(layer), numbers.value_width(layer), fused=fused, bias=bias)
        inner = numbers.value_head(layer) * numbers.heads[layer]
        self.linear(f"{at}attn_output", inner, numbers.embedding, bias=self.has("attention_bias", out_bias))

    def gated(self, at: str, hidden: int, suffix: str = "") -> None:
        """Gate, up and down of a feed-forward network; `suffix` for shared experts."""
        width = self.numbers.embedding
        bias = self.has("ffn_bias") and not suffix
        self.linear(f"{at}ffn_gate{suffix}", width, hidden, bias=bias)
        self.linear(f"{at}ffn_up{suffix}", width, hidden, bias=bias)
        self.linear(f"{at}ffn_down{suffix}", hidden, width, bias=bias)

    def plain(self, at: str, hidden: int, *, up: int | None = None, bias: bool = False) -> None:
        """Up and down of a feed-forward network without a gate, or with one inside `up`."""
        width = self.numbers.embedding
        bias = self.has("ffn_bias", bias)
        self.linear(f"{at}ffn_up", width, up or hidden, bias=bias)
        self.linear(f"{at}ffn_down", hidden, width, bias=bias)

    def experts(self, at: str, hidden: int, *, gate: bool = True, bias: bool = False, width: int = 0) -> None:
        """The router and the experts of a layer, each kind in one tensor."""
        count, embedding = self.numbers.experts, self.numbers.embedding
        width = width or embedding
        self.linear(f"{at}ffn_gate_inp", embedding, count, bias=bias)
        if gate and self.has("fused_experts"):
            self.add(f"{at}ffn_gate_up_exps.weight", width, 2 * hidden, count)
        else:
            if gate:
                self._expert(f"{at}ffn_gate_exps", width, hidden, bias)
            self._expert(f"{at}ffn_up_exps", width, hidden, bias)
        self._expert(f"{at}ffn_down_exps", hidden, width, bias)

    def _expert(self, name: str, inner: int, outer: int, bias: bool) -> None:
        self.add(f"{name}.weight", inner, outer, self.numbers.experts)
        if bias:
            self.add(f"{name}.bias", outer, self.numbers.experts)
