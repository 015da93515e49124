"""A model as the engine loads it: its numbers and its tensors."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from berth.engine.hyperparameters import Hyperparameters
    from berth.engine.tensors import Tensor

_LAYER_PREFIX = "blk."
_INPUT = frozenset({
    "token_embd.weight", "token_embd_norm.weight", "token_embd_norm.bias", "token_types.weight",
    "position_embd.weight", "per_layer_token_embd.weight", "per_layer_model_proj.weight",
    "per_layer_proj_norm.weight",
})  # fmt: skip
_REPEATED = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})


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
        """The tensors of each layer, which go where the layer goes."""
        by_layer: dict[int, list[Tensor]] = defaultdict(list)
        for tensor in self.tensors:
            layer = layer_of(tensor.name)
            if layer is not None:
                by_layer[layer].append(tensor)
        return tuple(tuple(by_layer[layer]) for layer in range(self.hyperparameters.layers))

    @cached_property
    def input(self) -> tuple[Tensor, ...]:
        """The tensors of the input, which stay in host memory."""
        return tuple(tensor for tensor in self.tensors if tensor.name in _INPUT)

    @cached_property
    def output(self) -> tuple[Tensor, ...]:
        """The tensors of the output, which go to the last device; where the output is tied, the token
        embedding is among them, since the engine copies it there."""
        own = tuple(
            tensor
            for tensor in self.tensors
            if layer_of(tensor.name) is None and tensor.name not in _INPUT and tensor.name not in _REPEATED
        )
        if self.tied and "token_embd.weight" in self.by_name:
            return (*own, self.by_name["token_embd.weight"])
        return own

    @property
    def tied(self) -> bool:
        """Whether the output uses the token embedding."""
        return "output.weight" not in self.by_name


def layer_of(name: str) -> int | None:
    """The layer that a tensor belongs to by its name, None for those of input and output."""
    if not name.startswith(_LAYER_PREFIX):
        return None
    number = name[len(_LAYER_PREFIX) :].partition(".")[0]
    return int(number) if number.isdecimal() else None
