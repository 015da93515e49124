"""A model as the engine loads it: its numbers, its tensors, and which part of the engine each belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from berth.engine import architectures, quantization
from berth.engine.hyperparameters import Hyperparameters
from berth.errors import CatalogError, InvalidGguf

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from berth.engine.gguf import Header
    from berth.engine.tensors import Tensor

_INPUT = frozenset({
    "token_embd.weight", "token_types.weight", "position_embd.weight", "per_layer_token_embd.weight",
})  # fmt: skip
# LFM 2 files call the last norm token_embd_norm; everywhere else it is the first
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
    def _parts(self) -> tuple[tuple[tuple[Tensor, ...], ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The tensors of each layer, those that are everywhere, and those of the output."""
        layers: list[list[Tensor]] = [[] for _ in range(self.hyperparameters.layers)]
        everywhere: list[Tensor] = []
        output: list[Tensor] = []
        main = self.hyperparameters.main_layers
        first = frozenset() if self.hyperparameters.architecture in ("lfm2", "lfm2moe") else _FIRST
        for tensor in self.tensors:
            layer = layer_of(tensor.name)
            if layer is not None:
                if layer < main:
                    layers[layer].append(tensor)
            elif tensor.name in first:
                layers[0].append(tensor)
            elif tensor.name in _EVERYWHERE:
                everywhere.append(tensor)
            elif tensor.name not in _INPUT:
                output.append(tensor)
        if self.tied and self.hyperparameters.architecture not in architectures.ENCODERS:
            output.append(self.by_name["token_embd.weight"])
        return tuple(map(tuple, layers)), tuple(everywhere), tuple(output)

    @property
    def layers(self) -> tuple[tuple[Tensor, ...], ...]:
        """The tensors of each layer, which go where the layer goes; the first has what prepares the input.

        Layers for multi-token prediction are empty: the server does not load them unless it drafts with them.
        """
        return self._parts[0]

    @property
    def everywhere(self) -> tuple[Tensor, ...]:
        """The tensors that every device with layers has a copy of: factors of the rotary embedding.

        Gemma 4 uses them in full-attention layers only, so only devices with such a layer have them.
        """
        return self._parts[1]

    @property
    def output(self) -> tuple[Tensor, ...]:
        """The tensors of the output, which go to the last device; a tied token embedding is copied there."""
        return self._parts[2]

    @cached_property
    def input(self) -> tuple[Tensor, ...]:
        """The tensors of the input, which stay in host memory."""
        return tuple(tensor for tensor in self.tensors if tensor.name in _INPUT)

    @cached_property
    def kinds(self) -> tuple[Hashable, ...]:
        """For each layer, what makes its part of the engine's graph differ from another's."""
        numbers = self.hyperparameters
        shapes: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in range(numbers.layers)]
        for tensor in self.tensors:
            layer = layer_of(tensor.name)
            if layer is not None and layer < numbers.layers:
                shapes[layer].append((tensor.name.partition(".")[2].partition(".")[2], tensor.shape))
        return tuple(
            (
                frozenset(shapes[layer]),
                numbers.windowed[layer],
                numbers.recurrent[layer],
                numbers.heads[layer],
                numbers.kv_heads[layer],
                numbers.experts_used[layer],
                numbers.has_kv(layer),
                layer < numbers.leading_dense,
                layer < numbers.deepstack_layers,
                bool(numbers.no_rope_step) and (layer + 1) % numbers.no_rope_step == 0,
            )
            for layer in range(numbers.main_layers)
        )

    @property
    def tied(self) -> bool:
        """Whether the output, if there is one, uses the token embedding."""
        return "output.weight" not in self.by_name


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
        InvalidGguf: the metadata makes no model, tensors are missing, or it is one part of several.
    """
    return from_headers((header,))


def from_headers(headers: Sequence[Header]) -> Layout:
    """The layout of a model that is split into several files, each with its header, in any order.

    Raises:
        UnknownArchitecture: there is no memory model of it.
        InvalidGguf: the metadata makes no model, or parts or tensors are missing.
    """
    parts = sorted(headers, key=lambda header: header.split_number)
    count = max(parts[0].split_count, 1)
    if [part.split_number for part in parts] != list(range(count)):
        given = ", ".join(str(part.split_number + 1) for part in parts)
        raise InvalidGguf(f"the model is split into {count} files and all are needed; given: {given}")
    numbers = Hyperparameters.from_metadata(parts[0].metadata)
    architectures.check(numbers.architecture)
    tensors = tuple(tensor for part in parts for tensor in part.tensors)
    _check_complete(numbers, tensors)
    return Layout(numbers, tensors)


def _check_complete(numbers: Hyperparameters, tensors: tuple[Tensor, ...]) -> None:
    """Refuse a file that lacks tensors or has them in another shape, as the engine would."""
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    try:
        rows = architectures.table(numbers, architectures.features_of(numbers, shapes))
    except CatalogError as error:
        raise InvalidGguf(str(error)) from None
    for name, shape in rows:
        found = shapes.get(name)
        if found is None:
            raise InvalidGguf(f"{numbers.architecture}: the file lacks the tensor {name}")
        if _trimmed(found) != _trimmed(shape):
            raise InvalidGguf(
                f"{numbers.architecture}: the tensor {name} has the shape {list(found)}, not {list(shape)}"
            )


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the ones at its end, which mean nothing."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
