"""A model's numbers, from GGUF metadata, with the defaults of the pinned engine where a key is absent.

Presets give the same keys that a GGUF header has, so one reader serves both. What an architecture itself
fixes is in `berth.engine.patterns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from berth.engine import patterns
from berth.engine.metadata import Reader
from berth.errors import InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from berth.engine.patterns import RopeKind, WindowKind

MAX_LAYERS = 512
MAX_EXPERTS = 1024


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The numbers that tensors, cache and graphs are made from. Tuples hold one entry per layer."""

    architecture: str
    layers: int
    """All blocks of the file, those for multi-token prediction (`nextn_layers`, the last ones) included."""
    nextn_layers: int
    trained_context: int
    vocabulary: int
    embedding: int
    embedding_out: int
    feed_forward: tuple[int, ...]
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    key_length_swa: int
    value_length_swa: int
    rope_dimensions: int
    rope_dimensions_swa: int
    rope_kind: RopeKind
    rope_sections: tuple[int, ...]
    rope_finetuned: bool
    rope_scaling: str
    original_context: int
    # mixture of experts
    experts: int
    experts_used: tuple[int, ...]
    expert_feed_forward: tuple[int, ...]
    shared_feed_forward: int
    shared_experts: int
    expert_groups: int
    expert_groups_used: int
    expert_weights_scale: float
    expert_weights_norm: bool
    expert_gating: int
    leading_dense: int
    moe_layer_step: int
    moe_latent: int
    # multi-head latent attention
    q_lora_rank: int
    kv_lora_rank: int
    key_length_mla: int
    value_length_mla: int
    # sliding windows
    window: int
    window_kind: WindowKind
    windowed: tuple[bool, ...]
    no_rope_step: int
    # layers with a state instead of a cache
    recurrent: tuple[bool, ...]
    ssm_conv: int
    ssm_inner: int
    ssm_state: int
    ssm_rank: int
    ssm_groups: int
    ssm_dt_b_c_rms: bool
    shortconv_cache: int
    # layers that keep a cache at all
    kv_layers_from_start: int
    embedding_per_layer: int
    deepstack_layers: int
    # encoders and classifiers
    causal: bool
    pooling: int
    """0 none, 1 mean, 2 CLS, 3 last, 4 rank, as in the file."""
    classifier_outputs: int
    token_types: int
    # factors: zero means that the graph has no such step
    logit_scale: float
    residual_scale: float
    embedding_scale: float
    attention_scale: float
    attention_temperature: float
    attention_softcap: float
    final_softcap: float
    clamp_kqv: float
    alibi_bias: float
    parallel_residual: bool

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], vocabulary: int = 0) -> Hyperparameters:
        """Read the numbers of a model.

        Args:
            metadata: GGUF keys and values; long arrays may be summaries.
            vocabulary: tokens, where the metadata holds no token list.

        Raises:
            InvalidGguf: a key is missing or senseless.
        """
        read = Reader(metadata)
        layers = read.integer("block_count")
        if not 0 < layers <= MAX_LAYERS:
            raise InvalidGguf(f"{read.architecture}.block_count is {layers}, not 1 to {MAX_LAYERS}")
        nextn = read.integer("nextn_predict_layers", 0)
        if nextn >= layers:
            raise InvalidGguf(f"{read.architecture}.nextn_predict_layers is {nextn} of {layers} layers")
        embedding = read.integer("embedding_length")
        if embedding == 0:
            raise InvalidGguf(f"{read.architecture}.embedding_length is 0")
        tokens = read.length("tokenizer.ggml.tokens") or vocabulary or read.integer("vocab_size", 0)
        heads = read.per_layer("attention.head_count", layers)
        kv_heads = heads
        if read.has("attention.head_count_kv"):
            kv_heads = read.per_layer("attention.head_count_kv", layers)
        feed_forward = read.per_layer("feed_forward_length", layers)
        head = embedding // heads[0] if heads[0] else 0
        key_length = read.integer("attention.key_length", head) if heads[0] else 0
        value_length = read.integer("attention.value_length", head) if heads[0] else 0
        rope_dimensions = read.integer("rope.dimension_count", key_length) if heads[0] else 0
        experts = read.integer("expert_count", 0)
        if experts > MAX_EXPERTS:
            raise InvalidGguf(f"{read.architecture}.expert_count is {experts}, above {MAX_EXPERTS}")
        recurrent = patterns.recurrent(read, layers, nextn, kv_heads, feed_forward)
        window, window_kind, windowed = patterns.windows(read, layers, nextn, recurrent)
        sections = (read.array("rope.dimension_sections") or ())[:4]
        trained_context = read.integer("context_length")
        return cls(
            architecture=read.architecture,
            layers=layers,
            nextn_layers=nextn,
            trained_context=trained_context,
            vocabulary=tokens,
            embedding=embedding,
            embedding_out=read.integer("embedding_length_out", 0) or embedding,
            feed_forward=feed_forward,
            heads=heads,
            kv_heads=kv_heads,
            key_length=key_length,
            value_length=value_length,
            key_length_swa=read.integer("attention.key_length_swa", key_length),
            value_length_swa=read.integer("attention.value_length_swa", value_length),
            rope_dimensions=rope_dimensions,
            rope_dimensions_swa=read.integer("rope.dimension_count_swa", rope_dimensions),
            rope_kind=patterns.rope_kind(read.architecture, sections),
            rope_sections=sections,
            rope_finetuned=read.flag("rope.scaling.finetuned", read.architecture.startswith("granite")),
            rope_scaling=read.text("rope.scaling.type", "linear"),
            original_context=read.integer("rope.scaling.original_context_length", trained_context),
            experts=experts,
            experts_used=read.per_layer("expert_used_count", layers),
            expert_feed_forward=read.per_layer("expert_feed_forward_length", layers),
            shared_feed_forward=read.integer("expert_shared_feed_forward_length", 0),
            shared_experts=read.integer("expert_shared_count", 0),
            expert_groups=read.integer("expert_group_count", 0),
            expert_groups_used=read.integer("expert_group_used_count", 0),
            expert_weights_scale=read.number("expert_weights_scale"),
            expert_weights_norm=read.flag("expert_weights_norm"),
            expert_gating=read.integer("expert_gating_func", 0),
            leading_dense=read.integer("leading_dense_block_count", 0),
            moe_layer_step=read.integer("interleave_moe_layer_step", 0),
            moe_latent=read.integer("moe_latent_size", 0),
            q_lora_rank=patterns.q_lora_rank(read, layers - nextn, tokens),
            kv_lora_rank=read.integer("attention.kv_lora_rank", 0),
            key_length_mla=read.integer("attention.key_length_mla", 0),
            value_length_mla=read.integer("attention.value_length_mla", 0),
            window=window,
            window_kind=window_kind,
            windowed=windowed,
            no_rope_step=patterns.no_rope_step(read, layers - nextn),
            recurrent=recurrent,
            ssm_conv=read.integer("ssm.conv_kernel", 0),
            ssm_inner=read.integer("ssm.inner_size", 0),
            ssm_state=read.integer("ssm.state_size", 0),
            ssm_rank=read.integer("ssm.time_step_rank", 0),
            ssm_groups=read.integer("ssm.group_count", 0),
            ssm_dt_b_c_rms=read.flag("ssm.dt_b_c_rms"),
            shortconv_cache=read.integer("shortconv.l_cache", 0),
            kv_layers_from_start=patterns.kv_layers(read, layers),
            embedding_per_layer=read.integer("embedding_length_per_layer_input", 0),
            deepstack_layers=read.integer("n_deepstack_layers", 0),
            causal=read.flag("attention.causal", read.architecture != "gemma-embedding"),
            pooling=read.integer("pooling_type", 0),
            classifier_outputs=read.length(f"{read.architecture}.classifier.output_labels"),
            token_types=read.whole("tokenizer.ggml.token_type_count"),
            logit_scale=read.number("logit_scale"),
            residual_scale=read.number("residual_scale"),
            embedding_scale=read.number("embedding_scale"),
            attention_scale=read.number("attention.scale"),
            attention_temperature=read.number("attention.temperature_scale"),
            attention_softcap=patterns.attention_softcap(read),
            final_softcap=patterns.final_softcap(read),
            clamp_kqv=read.number("attention.clamp_kqv"),
            alibi_bias=patterns.alibi_bias(read),
            parallel_residual=read.flag("use_parallel_residual", True),
        )

    @property
    def main_layers(self) -> int:
        """Layers that generate tokens: all but those for multi-token prediction."""
        return self.layers - self.nextn_layers

    @property
    def mla(self) -> bool:
        """Whether the cache holds one compressed row per token instead of keys and values."""
        return self.key_length_mla != 0 and self.value_length_mla != 0

    def key_head(self, layer: int) -> int:
        """The length of one key head of a layer."""
        return self.key_length_swa if self.windowed[layer] else self.key_length

    def value_head(self, layer: int) -> int:
        """The length of one value head of a layer."""
        return self.value_length_swa if self.windowed[layer] else self.value_length

    def key_width(self, layer: int) -> int:
        """The elements of a layer's keys of one token."""
        return self.key_head(layer) * self.kv_heads[layer]

    def value_width(self, layer: int) -> int:
        """The elements of a layer's values of one token."""
        return self.value_head(layer) * self.kv_heads[layer]

    def has_kv(self, layer: int) -> bool:
        """Whether a layer keeps keys and values of its own."""
        return self.kv_layers_from_start < 0 or layer < self.kv_layers_from_start

    @property
    def conv_state(self) -> int:
        """The elements of a recurrent layer's rolling state of one sequence."""
        if self.shortconv_cache:
            return self.embedding * (self.shortconv_cache - 1)
        return max(self.ssm_conv - 1, 0) * (self.ssm_inner + 2 * self.ssm_groups * self.ssm_state)

    @property
    def recurrent_state(self) -> int:
        """The elements of a recurrent layer's state of one sequence."""
        return self.ssm_state * self.ssm_inner

    @property
    def positions_per_token(self) -> int:
        """How many positions the engine keeps per token."""
        return 4 if self.rope_kind in ("mrope", "imrope") else 1
