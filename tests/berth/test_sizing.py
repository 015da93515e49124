"""The planner on real presets and instance types: what fits, why not less, and what would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth import catalog as catalogs
from berth import choosing, fitting, sizing, workspaces
from berth.errors import NoFit
from berth.fleet import Fleet
from berth.plans import Plan

if TYPE_CHECKING:
    from berth.problems import Problem

CATALOG = catalogs.load()


def workspace(
    preset: str = "falcon-7b",
    instance: str | None = "Standard_NC12s_v3",
    count: int | None = None,
    **llamacpp: Any,
) -> workspaces.Workspace:
    resource: dict[str, Any] = {"labelSelector": {"matchLabels": {"apps": "test"}}}
    if instance is not None:
        resource["instanceType"] = instance
    if count is not None:
        resource["count"] = count
    inference: dict[str, Any] = {"preset": {"name": preset}}
    if llamacpp:
        inference["llamacpp"] = llamacpp
    return workspaces.parse({
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "test"},
        "resource": resource,
        "inference": inference,
    })  # fmt: skip


def plan(fleet: Fleet | None = None, **fields: Any) -> Plan:
    return sizing.plan(workspace(**fields), CATALOG, fleet)


def refusal(fleet: Fleet | None = None, **fields: Any) -> Problem:
    with pytest.raises(NoFit) as refused:
        plan(fleet, **fields)
    assert len(refused.value.problems) == 1
    return refused.value.problems[0]


def test_the_quick_start_takes_one_node_and_one_of_its_gpus() -> None:
    made = plan()
    assert (made.nodes.count, made.replicas, made.gpus_per_replica) == (1, 1, 1)
    assert made.server is not None
    assert (made.server.quantization, made.server.context_size, made.server.parallel) == ("Q4_K_M", 2048, 4)


def test_volta_gets_the_build_that_still_knows_it() -> None:
    volta, ampere = plan().server, plan(instance="Standard_NC24ads_A100_v4").server
    assert volta is not None
    assert ampere is not None
    assert (volta.variant, ampere.variant) == ("cuda12", "cuda13")


def test_given_nodes_are_filled_with_replicas() -> None:
    made = plan(preset="llama-2-70b-chat", instance="Standard_NC96ads_A100_v4", count=2)
    assert (made.nodes.count, made.replicas, made.gpus_per_replica) == (2, 8, 1)


def test_asked_replicas_decide_the_number_of_nodes() -> None:
    assert plan(replicas=5).nodes.count == 3


def test_a_replica_takes_the_fewest_gpus_that_hold_it() -> None:
    made = plan(preset="llama-2-13b")
    assert made.gpus_per_replica == 2
    assert made.server is not None
    assert made.server.tensor_split == (1, 1)
    assert any("1 GPU of Standard_NC12s_v3 would be short of" in reason for reason in made.explanation)


def test_every_gpu_of_a_plan_holds_its_share() -> None:
    made = plan(preset="llama-2-13b")
    assert made.memory is not None
    for gpu in made.memory.gpus:
        assert gpu.total == gpu.weights + gpu.kv_cache + gpu.compute + gpu.overhead
        assert gpu.capacity is not None
        assert gpu.total <= gpu.capacity


def test_what_does_not_fit_says_what_is_short_and_the_proposals_do_fit() -> None:
    problem = refusal(preset="llama-2-70b-chat")
    assert problem.path == ("resource", "instanceType")
    assert problem.value == "Standard_NC12s_v3"
    assert "short of" in problem.reason
    assert "GiB" in problem.reason
    proposed = problem.fix.partition("instanceType: ")[2].split()[0]
    assert plan(preset="llama-2-70b-chat", instance=proposed).nodes.instance_type == proposed


def test_a_proposed_context_fits_and_the_next_larger_one_does_not() -> None:
    problem = refusal(preset="llama-2-13b", contextSize=16384)
    context = int(problem.fix.partition("contextSize: ")[2].split(",")[0])
    assert plan(preset="llama-2-13b", contextSize=context)
    assert refusal(preset="llama-2-13b", contextSize=context + fitting.SMALLEST_CONTEXT)


def test_a_proposed_quantization_fits() -> None:
    own = {"pvc": "models", "file": "falcon.gguf"}
    fields: dict[str, Any] = {"preset": "falcon-40b", "instance": "Standard_NC24s_v3", "weights": own}
    problem = refusal(**fields, quantization="F16")
    quantization = problem.fix.partition("quantization: ")[2].split(",")[0]
    assert plan(**fields, quantization=quantization)


def test_without_an_instance_type_nothing_cheaper_would_hold_it() -> None:
    made = plan(preset="llama-2-13b", instance=None)
    assert made.cost is not None
    for instance in choosing.usable(CATALOG.instance_types.values(), "azure"):
        if instance.price is not None and instance.price.per_hour < made.cost.per_hour:
            with pytest.raises(NoFit):
                plan(preset="llama-2-13b", instance=instance.name)


def test_only_the_fleets_cloud_is_chosen_from() -> None:
    names = {plan(Fleet(cloud=cloud), instance=None).nodes.instance_type for cloud in ("azure", "aws", "gcp")}
    clouds = {CATALOG.instance_type(name).cloud for name in names if name is not None}
    assert clouds == {"azure", "aws", "gcp"}


def test_auto_finds_the_largest_context_that_fits() -> None:
    made = plan(preset="llama-2-13b", instance="Standard_NC24ads_A100_v4", contextSize="auto", parallel=16)
    assert made.server is not None
    largest = made.server.context_size
    assert plan(preset="llama-2-13b", instance="Standard_NC24ads_A100_v4", contextSize=largest, parallel=16)
    if largest < CATALOG.model("llama-2-13b").trained_context:
        problem = refusal(
            preset="llama-2-13b", instance="Standard_NC24ads_A100_v4", contextSize=largest + 256, parallel=16
        )
        assert problem.rule == "fit"


def test_auto_stops_at_what_the_model_was_trained_for() -> None:
    made = plan(instance="Standard_NC24ads_A100_v4", contextSize="auto")
    assert made.server is not None
    assert made.server.context_size == CATALOG.model("falcon-7b").trained_context


def test_several_nodes_are_refused_where_the_network_is_open() -> None:
    problem = refusal(preset="llama-2-70b", count=2)
    assert "networkPolicy: enforced" in problem.reason


def test_several_nodes_serve_one_replica_where_the_network_is_guarded() -> None:
    made = plan(Fleet(network_policy="enforced"), preset="llama-2-70b", count=2)
    assert (made.nodes_per_replica, made.gpus_per_replica, made.replicas) == (2, 4, 1)


def test_more_replicas_than_the_nodes_hold_is_a_problem_of_the_count() -> None:
    problem = refusal(count=1, replicas=3)
    assert problem.path == ("resource", "count")
    assert problem.fix == "write count: 2, or replicas: 2"


def test_a_plan_is_valid_for_every_fallback_that_it_names() -> None:
    fleet = Fleet(fallback_instance_types=("Standard_NC24s_v3", "Standard_NV36ads_A10_v5"))
    made = plan(fleet, preset="llama-2-7b", quantization="Q8_0", contextSize=1024)
    assert "Standard_NC24s_v3" in made.nodes.fallback_instance_types
    for name in made.nodes.fallback_instance_types:
        assert plan(preset="llama-2-7b", instance=name, quantization="Q8_0", contextSize=1024)


@pytest.mark.parametrize(
    ("fields", "path", "nearest"),
    [
        pytest.param({"preset": "falcon-7"}, ("inference", "preset", "name"), "falcon-7b", id="a preset"),
        pytest.param(
            {"instance": "Standard_NC12_v3"}, ("resource", "instanceType"), "Standard_NC12s_v3", id="a node"
        ),
        pytest.param(
            {"quantization": "Q4_KM"},
            ("inference", "llamacpp", "quantization"),
            "Q4_K_M",
            id="a quantization",
        ),
    ],
)
def test_a_misspelt_name_gets_the_nearest(
    fields: dict[str, Any], path: tuple[str, ...], nearest: str
) -> None:
    problem = refusal(**fields)
    assert problem.path == path
    assert nearest in problem.message


def test_names_work_in_any_case() -> None:
    made = plan(preset="FALCON-7B", instance="standard_nc12s_V3", quantization="q8_0")
    assert made.server is not None
    assert (made.server.model, made.nodes.instance_type) == ("falcon-7b", "Standard_NC12s_v3")
    assert made.server.quantization == "Q8_0"


def test_a_cache_of_two_types_is_refused() -> None:
    assert refusal(cacheTypeK="q8_0").rule == "cache-type"


def test_a_quantized_cache_halves_the_cache_and_is_charged_for_its_copies() -> None:
    plain, quantized = (
        plan(preset="llama-2-7b"),
        plan(preset="llama-2-7b", cacheTypeK="q8_0", cacheTypeV="q8_0"),
    )
    assert plain.memory is not None
    assert quantized.memory is not None
    assert quantized.memory.gpus[0].kv_cache < 0.54 * plain.memory.gpus[0].kv_cache
    assert quantized.memory.gpus[0].overhead > plain.memory.gpus[0].overhead


def test_an_own_pod_template_gets_nodes_and_no_server() -> None:
    document = {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "own"},
        "resource": {
            "count": 2,
            "instanceType": "Standard_NC12s_v3",
            "labelSelector": {"matchLabels": {"a": "b"}},
        },
        "inference": {
            "template": {"spec": {"containers": [{"name": "own", "image": "registry.example.com/own:1"}]}}
        },
    }
    made = sizing.plan(workspaces.parse(document), CATALOG)
    assert (made.server, made.nodes.count, made.replicas) == (None, 2, 2)


def test_the_same_input_gives_the_same_plan() -> None:
    first = plan(preset="llama-2-13b", instance=None).dumps()
    fitting.measure.cache_clear()
    fitting.smallest.cache_clear()
    assert plan(preset="llama-2-13b", instance=None).dumps() == first


def test_a_plan_survives_its_own_json() -> None:
    made = plan()
    assert Plan.model_validate(made.to_json()) == made


@settings(max_examples=25, deadline=None)
@given(
    context=st.integers(1, 16).map(lambda steps: steps * 256),
    parallel=st.integers(1, 8),
    more=st.sampled_from(["context", "parallel"]),
)
def test_more_context_or_slots_never_needs_less(context: int, parallel: int, more: str) -> None:
    demand: dict[str, Any] = {"preset": "llama-2-7b", "instance": "Standard_ND96asr_A100_v4"}
    less = plan(contextSize=context, parallel=parallel, **demand)
    grown = plan(
        contextSize=context + (256 if more == "context" else 0),
        parallel=parallel + (1 if more == "parallel" else 0),
        **demand,
    )
    assert less.memory is not None
    assert grown.memory is not None
    assert grown.gpus_per_replica >= less.gpus_per_replica
    total = sum(gpu.total for gpu in less.memory.gpus), sum(gpu.total for gpu in grown.memory.gpus)
    assert total[1] >= total[0]


def test_heads_without_a_cuda_kernel_are_planned_without_flash_attention() -> None:
    made = plan(preset="bge-small-en-v1.5", instance="Standard_NC4as_T4_v3")
    assert made.server is not None
    assert not made.server.flash_attention
    ordinary = plan(preset="nomic-embed-text-v1.5", instance="Standard_NC4as_T4_v3").server
    assert ordinary is not None
    assert ordinary.flash_attention


def test_settings_at_which_the_engine_aborts_are_a_problem_of_the_spec() -> None:
    cache: dict[str, Any] = {"cacheTypeK": "q4_0", "cacheTypeV": "q4_0"}
    problem = refusal(preset="phi-4", instance="Standard_NC24ads_A100_v4", **cache)
    assert (problem.rule, problem.path) == ("settings", ("inference", "llamacpp"))
    assert "cacheTypeK" in problem.fix


def test_existing_nodes_have_to_be_described_before_they_are_chosen_from() -> None:
    problem = refusal(Fleet(provisioning="none"), instance=None)
    assert (problem.path, problem.rule) == (("resource", "instanceType"), "unknown-nodes")
    assert plan(Fleet(provisioning="none")).nodes.instance_type == "Standard_NC12s_v3"


def test_existing_nodes_of_the_fleet_file_are_chosen_from() -> None:
    own = {"name": "rack-4", "gpuModel": "NVIDIA A100 80GB", "gpuCount": 2}
    fleet = Fleet(provisioning="none", instance_types=(own,))
    catalog = CATALOG.extended(instance_types=fleet.instance_types)
    assert sizing.plan(workspace(instance=None), catalog, fleet).nodes.instance_type == "rack-4"
