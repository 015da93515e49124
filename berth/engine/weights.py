"""Which device holds how many bytes of a model's tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.engine.tensors import allocated

if TYPE_CHECKING:
    from berth.engine.devices import Placement
    from berth.engine.layouts import Layout


def weights_by_device(layout: Layout, placement: Placement) -> list[int]:
    """Bytes on every GPU and, last, on the host.

    Tensors of the input stay on the host; those of a layer go with it; those of the output follow the
    output; factors of the rotary embedding are copied to every device with a layer that uses them.
    """
    numbers = layout.hyperparameters
    sizes = [0] * (placement.gpus + 1)
    if placement.gpus == 0:
        loaded = [tensor for tensors in layout.layers for tensor in tensors]
        others = {tensor.name: tensor for tensor in (*layout.input, *layout.output, *layout.everywhere)}
        sizes[0] = allocated(loaded) + allocated(others.values())
        if numbers.architecture == "gemma4" and layout.tied:
            # the engine asks for the output first here, and then does not find it again as the input
            sizes[0] += allocated([layout.by_name["token_embd.weight"]])
        return sizes
    users: set[int] = set()
    for layer, tensors in enumerate(layout.layers):
        device = placement.layers[layer]
        sizes[device] += allocated(tensors)
        if tensors and not (numbers.architecture == "gemma4" and numbers.windowed[layer]):
            users.add(device)
    for device in users:
        sizes[device] += allocated(layout.everywhere)
    sizes[placement.output] += allocated(layout.output)
    sizes[placement.host] += allocated(layout.input)
    return sizes
