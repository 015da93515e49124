"""A model as the engine loads it: its numbers, its tensors, and which part of the engine each belongs to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from berth.engine import architectures, quantization
from berth.engine.hyperparameters import Hyperparameters
from berth.errors import CatalogError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from berth.engine.gguf import Header
    from berth.engine.tensors import Tensor

_INPUT = frozenset({
    "token_embd.weight", "token_types.weight", "position_embd.weight", "per_layer_token_embd.weight",
})  # fmt: skip
_FIRST = frozenset({
    "token_embd_norm.weight", "token_embd_norm.bias", "per_layer_model_proj.weight",
    "per_layer_proj_norm.weight",
})  # fmt: skip
_EVERYWHERE = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})


@dataclass(frozen=True)
class Layout:
    """A model: its numbers, and every tensor of its file."""

    hyperparameters: Hyperparameters
    tensors: tuple[Tensor, ...]

    @cached_property
    def by_name(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def size(self) -> int:
        """Bytes of all tensors in the file."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def layers(self) -> tuple[tuple[Tensor, ...], ...]:
        """The tensors of each layer, which go where the layer goes.

        Layers for multi-token prediction are empty: the server does not load them unless it drafts with them.
        """
        by_layer: dict[int, list[Tensor]] = defaultdict(list)
        lfm = self._norm_is_output
        for tensor in self.tensors:
            layer = layer_of(tensor.name)
            if layer is not None:
                by_layer[layer].append(tensor)
            elif tensor.name in _FIRST and not lfm:
                by_layer[0].append(tensor)
        main = self.hyperparameters.main_layers
        return tuple(
            tuple(by_layer[layer]) if layer < main else () for layer in range(self.hyperparameters.layers)
        )

    @cached_property
    def input(self) -> tuple[Tensor, ...]:
        """The tensors of the input, which stay in host memory."""
        return tuple(tensor for tensor in self.tensors if tensor.name in _INPUT)

    @cached_property
    def everywhere(self) -> tuple[Tensor, ...]:
        """The tensors that every device with layers has a copy of: factors of the rotary embedding.

        Gemma 4 uses them in full-attention layers only, so only devices with such a layer have them.
        """
        return tuple(tensor for tensor in self.tensors if tensor.name in _EVERYWHERE)

    @cached_property
    def output(self) -> tuple[Tensor, ...]:
        """The tensors of the output, which go to the last device; a tied token embedding is copied there."""
        first = frozenset() if self._norm_is_output else _FIRST
        own = tuple(
            tensor
            for tensor in self.tensors
            if layer_of(tensor.name) is None and tensor.name not in _INPUT | _EVERYWHERE | first
        )
        if self.tied and self.hyperparameters.architecture not in architectures.ENCODERS:
            return (*own, self.by_name["token_embd.weight"])
        return own

    @property
    def tied(self) -> bool:
        """Whether the output, if there is one, uses the token embedding."""
        return "output.weight" not in self.by_name

    @property
    def _norm_is_output(self) -> bool:
        """LFM 2 files call the last norm token_embd_norm."""
        return self.hyperparameters.architecture in ("lfm2", "lfm2moe")


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to by its name, None for those of input and output."""
    if not name.startswith("blk."):
        return None
    number = name[4:].partition(".")[0]
    return int(number) if number.isdecimal() else None


def preset(
    metadata: Mapping[str, Any],
    quantization_name: str,
    *,
    vocabulary: int = 0,
    features: Mapping[str, bool] | None = None,
    as_published: bool = True,
) -> Layout:
    """The layout of a model of the catalogue in one of its quantizations.

    Args:
        metadata: GGUF keys and values.
        quantization_name: a kind of file, such as Q4_K_M.
        vocabulary: how many tokens the model knows.
        features: what `architectures.FEATURES` explains, where it is not as usual for the architecture.
        as_published: follow published files where the pinned quantizer differs from them.

    Raises:
        UnknownArchitecture: there is no memory model of it.
        UnknownQuantization: there is no such kind of file of this model.
        CatalogError: the metadata or the features make no model.
    """
    numbers = Hyperparameters.from_metadata(metadata, vocabulary)
    if numbers.vocabulary <= 0:
        raise CatalogError(f"{numbers.architecture}: the size of the vocabulary is missing")
    rows = architectures.table(numbers, features or {})
    return Layout(numbers, quantization.choose(numbers, rows, quantization_name, as_published=as_published))


def from_header(header: Header) -> Layout:
    """The layout of a GGUF file.

    Raises:
        UnknownArchitecture: there is no memory model of it.
        InvalidGguf: the metadata makes no model, or tensors are missing.
    """
    numbers = Hyperparameters.from_metadata(header.metadata)
    architectures.check(numbers.architecture)
    return Layout(numbers, header.tensors)
