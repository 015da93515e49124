"""Which device holds which layer, and what crosses between devices."""

from __future__ import annotations

import pytest

from berth.engine import graph as g
from berth.engine.devices import place
from berth.engine.scheduler import buffer_sizes
from berth.errors import InvalidSettings


@pytest.mark.parametrize(
    ("layers", "gpus", "split", "counts", "output"),
    [
        pytest.param(32, 1, (), [32], 0, id="one GPU holds everything"),
        pytest.param(32, 2, (), [17, 15], 1, id="the output counts as one more layer of the last GPU"),
        pytest.param(32, 2, (0, 0), [17, 15], 1, id="a split of zeros is an equal one"),
        pytest.param(32, 2, (3, 1), [25, 7], 1, id="shares decide how many layers a GPU gets"),
        pytest.param(4, 4, (), [2, 1, 1, 0], 3, id="the last GPU may hold the output alone"),
        pytest.param(80, 8, (), [11, 10, 10, 10, 10, 10, 10, 9], 7, id="eight GPUs share 80 layers"),
    ],
)
def test_layers_are_spread_as_the_engine_does(
    layers: int, gpus: int, split: tuple[int, ...], counts: list[int], output: int
) -> None:
    placement = place(layers, gpus, split)
    assert [placement.layers.count(gpu) for gpu in range(gpus)] == counts
    assert placement.output == output
    assert list(placement.layers) == sorted(placement.layers)


def test_without_gpus_the_host_is_the_only_device() -> None:
    placement = place(3, 0)
    assert (placement.layers, placement.output, placement.host) == ((0, 0, 0), 0, 0)


@pytest.mark.parametrize(
    ("gpus", "split", "reason"),
    [
        pytest.param(16, (), "1 to 15", id="more GPUs than the engine's scheduler knows"),
        pytest.param(-1, (), "1 to 15", id="a negative number of GPUs"),
        pytest.param(2, (1, 1, 1), "3 shares for 2", id="shares that do not match the GPUs"),
    ],
)
def test_impossible_placements_are_refused(gpus: int, split: tuple[int, ...], reason: str) -> None:
    with pytest.raises(InvalidSettings, match=reason):
        place(32, gpus, split)


def _lookup_then_product(devices: int) -> g.Graph:
    """A look-up on the host, then a product with weights on each GPU in turn."""
    graph = g.Graph()
    host = devices
    table = g.leaf(g.F32, 256, 100)
    ids = g.leaf(g.I32, 8)
    ids.input = True
    table.external = table.weight = table.seen = True
    table.device = host
    value = g.get_rows(table, ids)
    for device in range(devices):
        weights = g.leaf(g.F32, 256, 256)
        weights.external = weights.weight = weights.seen = True
        weights.device = device
        value = g.mul_mat(weights, value)
    graph.expand(value)
    return graph


ROW = 8 * 256 * 4


def test_what_the_host_looks_up_is_copied_to_the_gpu() -> None:
    sizes, _ = buffer_sizes(_lookup_then_product(1), [32, 32])
    assert sizes == [2 * ROW, ROW + 32]


def test_several_gpus_keep_four_copies_of_what_crosses() -> None:
    sizes, _ = buffer_sizes(_lookup_then_product(2), [32, 32, 32], copies=4)
    assert sizes == [4 * ROW + ROW, 4 * ROW + ROW, ROW + 4 * 32]
