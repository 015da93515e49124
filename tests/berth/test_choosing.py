"""The quick search for the cheapest instance type finds what measuring everything finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog, choosing, fitting
from berth.engine import memory
from berth.engine.devices import MOST_GPUS

if TYPE_CHECKING:
    from berth.fitting import Demand, Fit
    from berth.instances import InstanceType

CATALOG = catalog.load()
TYPES = tuple(CATALOG.instance_types.values())
MODELS = ("phi-4-mini-instruct", "llama-2-13b", "qwen3-30b-a3b-instruct-2507", "gpt-oss-120b", "falcon-40b")
SETTINGS: dict[str, dict[str, Any]] = {
    "as the preset has it": {"context_size": None},
    "a long context in a small cache": {
        "context_size": 65536,
        "cache_type_k": "q8_0",
        "cache_type_v": "q8_0",
    },
    "many slots": {"context_size": 8192, "parallel": 32},
}


def demand(model: str, settings: str) -> Demand:
    found = CATALOG.model(model)
    asked = dict(SETTINGS[settings])
    asked["context_size"] = asked["context_size"] or found.default_context
    return fitting.demand(found, found.default_quantization, **asked)


def measured(wanted: Demand, instance: InstanceType, most_nodes: int) -> Fit:
    """Measure every number of GPUs from one on."""
    most = min(wanted.layout.hyperparameters.layers + 1, MOST_GPUS)
    counts = [*range(1, instance.gpu_count + 1)]
    counts += [instance.gpu_count * nodes for nodes in range(2, most_nodes + 1)]
    for gpus in counts:
        if gpus <= most:
            fit = fitting.measure(wanted, instance, gpus, wanted.wanted_context)
            if fit.fits:
                break
    return fit


def order(choice: choosing.Choice, priced: bool) -> tuple[float, int, int, int, str]:
    instance, gpus = choice.fit.instance, choice.gpus
    price = (choice.price_per_hour or 0.0) if priced else 0.0
    return (price, gpus, gpus * instance.gpu_memory, choice.nodes * (instance.memory or 0), instance.name)


def everything(
    wanted: Demand, types: tuple[InstanceType, ...], replicas: int, count: int | None, most_nodes: int
) -> choosing.Choice | None:
    """Measure all, then sort."""
    found = []
    for instance in types:
        fit = measured(wanted, instance, most_nodes if count is None else min(most_nodes, count))
        nodes = choosing.nodes_for(fit, replicas) if fit.fits else None
        if nodes is not None and (count is None or nodes <= count):
            found.append(choosing.Choice(fit, count or nodes))
    priced = all(choice.price_per_hour is not None for choice in found)
    return min(found, key=lambda choice: order(choice, priced), default=None)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("model", MODELS)
def test_the_fewest_gpus_are_those_that_measuring_finds(model: str, settings: str) -> None:
    wanted = demand(model, settings)
    for instance in TYPES:
        for most_nodes in (1, 3):
            assert fitting.best(wanted, instance, most_nodes) == measured(wanted, instance, most_nodes)


@pytest.mark.parametrize(
    ("replicas", "count", "most_nodes"), [(1, None, 1), (5, None, 4), (3, 2, 2), (1, 1, 1)]
)
@pytest.mark.parametrize("cloud", ["azure", "aws", "gcp", None])
@pytest.mark.parametrize("model", MODELS)
def test_the_cheapest_is_what_measuring_all_of_them_finds(
    model: str, cloud: str | None, replicas: int, count: int | None, most_nodes: int
) -> None:
    wanted = demand(model, "as the preset has it")
    pool = tuple(choosing.usable(TYPES, cloud))
    found = choosing.cheapest(wanted, pool, replicas, count, most_nodes)
    assert found == everything(wanted, pool, replicas, count, most_nodes)


def test_one_candidate_without_a_price_makes_gpus_decide() -> None:
    wanted = demand("llama-2-13b", "as the preset has it")
    pool = tuple(choosing.usable(TYPES, "azure"))
    known = choosing.cheapest(wanted, pool, 8, None, 1)
    assert known is not None
    one = next(instance for instance in pool if instance.name == known.fit.instance.name)
    without = tuple(catalog.replace_price(other, None) if other is one else other for other in pool)
    found = choosing.cheapest(wanted, without, 8, None, 1)
    assert found == everything(wanted, without, 8, None, 1)
    assert found is not None
    assert found.gpus <= known.gpus


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("model", MODELS)
def test_what_is_taken_at_least_is_never_more_than_what_is_taken(model: str, settings: str) -> None:
    wanted = demand(model, settings)
    overhead = memory.overhead("NVIDIA A100 80GB")
    for gpus in (1, 2, 5, 8):
        asked = wanted.settings(wanted.wanted_context, gpus)
        least = memory.least(wanted.layout, asked, overhead)
        whole = memory.footprint(wanted.layout, asked, overhead)
        assert 0 < least < max(gpu.total for gpu in whole.gpus)
        assert least == max(gpu.total - gpu.compute for gpu in whole.gpus)
