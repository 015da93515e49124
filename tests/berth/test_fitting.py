"""What holds for every preset anywhere: more asked never takes less, more there never refuses."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from berth import fitting, rules, workspaces
from berth.errors import InvalidSettings
from tests.random_specs import CATALOG, FLEETS, documents

if TYPE_CHECKING:
    from berth.fitting import Demand, Fit
    from berth.fleet import Fleet
    from berth.instances import InstanceType
    from berth.plans import Plan

MODELS = st.sampled_from(CATALOG.model_names).map(CATALOG.model)
INSTANCES = st.sampled_from([one for one in CATALOG.instance_types.values() if one.compute_capability >= 7])
CONTEXTS = st.sampled_from((256, 512, 2_048, 8_192, 32_768))
SLOTS = st.sampled_from((1, 2, 3, 4, 5, 7, 8, 16, 31, 64))


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    model, cache = draw(MODELS), draw(st.sampled_from(("f16", "q8_0")))
    demand = fitting.demand(
        model,
        draw(st.sampled_from(sorted(model.quantizations))),
        context_size=draw(CONTEXTS),
        parallel=draw(SLOTS),
        cache_type_k=cache,
        cache_type_v=cache,
    )
    assume(measured(demand, CATALOG.instance_type("Standard_NC24ads_A100_v4")) is not None)
    return demand


def measured(demand: Demand, instance: InstanceType) -> Fit | None:
    try:
        return fitting.measure(demand, instance, 1, demand.wanted_context)
    except InvalidSettings:
        return None


def with_slots(demand: Demand, parallel: int) -> Demand:
    return fitting.demand(
        demand.model,
        demand.quantization,
        context_size=demand.wanted_context,
        parallel=parallel,
        cache_type_k=demand.cache_type_k,
        cache_type_v=demand.cache_type_v,
    )


@settings(max_examples=60, deadline=None)
@given(demand=demands(), instance=INSTANCES)
def test_more_context_or_twice_the_slots_never_takes_less(demand: Demand, instance: InstanceType) -> None:
    longer = fitting.with_context_size(demand, demand.wanted_context + 256)
    for more in (longer, with_slots(demand, 2 * demand.parallel)):
        less, grown = measured(demand, instance), measured(more, instance)
        if less is not None and grown is not None:
            assert grown.missing >= less.missing


@settings(max_examples=60, deadline=None)
@given(demand=demands(), instance=INSTANCES)
def test_a_slot_more_takes_no_less_beside_what_the_engine_computes_in(
    demand: Demand, instance: InstanceType
) -> None:
    less, grown = measured(demand, instance), measured(with_slots(demand, demand.parallel + 1), instance)
    if less is not None and grown is not None:
        (before,), (after,) = less.memory.gpus, grown.memory.gpus
        assert after.weights + after.kv_cache >= before.weights + before.kv_cache
        assert before.total - after.total <= before.compute // 10 + before.overhead // 10


@settings(max_examples=60, deadline=None)
@given(demand=demands(), instances=st.tuples(INSTANCES, INSTANCES))
def test_more_and_larger_gpus_never_refuse_what_fewer_and_smaller_take(
    demand: Demand, instances: tuple[InstanceType, InstanceType]
) -> None:
    one, other = instances
    more = {
        "gpu_memory": max(one.gpu_memory, other.gpu_memory),
        "gpu_count": max(one.gpu_count, other.gpu_count),
    }
    if fitting.smallest(demand, one) is not None:
        assert fitting.smallest(demand, one.model_copy(update=more)) is not None


@settings(max_examples=60, deadline=None)
@given(document=documents(), fleet=FLEETS)
def test_a_plan_written_into_its_spec_is_planned_again(document: dict[str, Any], fleet: Fleet) -> None:
    first = rules.judge(workspaces.read(document), CATALOG, fleet).plan
    if first is None or first.server is None:
        return
    written = copy.deepcopy(document)
    written["resource"] |= {"instanceType": first.nodes.instance_type, "count": first.nodes.count}
    written["inference"]["llamacpp"] |= {
        "quantization": first.server.quantization,
        "contextSize": first.server.context_size,
        "parallel": first.server.parallel,
        "replicas": first.replicas,
    }
    second = rules.judge(workspaces.read(written), CATALOG, fleet).plan
    assert second is not None
    assert second.nodes == first.nodes
    assert second.replicas == first.replicas
    assert second.server is not None
    if second.server.batch < first.server.batch:
        # `auto` has an encoder's batch as long as its training; a written context has one of its own length
        assert first.server.task in ("embedding", "rerank")
        assert totals(second) <= totals(first)
    else:
        assert second.memory == first.memory
        assert second.server == first.server


def totals(plan: Plan) -> list[int]:
    return [gpu.total for gpu in plan.memory.gpus] if plan.memory else []
