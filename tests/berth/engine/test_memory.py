"""The memory of whole models, against what the pinned engine reports and what people published."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from berth.engine import graphs, memory, replay
from berth.engine.architectures import TABLES
from berth.engine.devices import place
from berth.engine.layouts import Layout
from berth.engine.memory import Settings, footprint, largest_context
from berth.engine.settings import CACHE_TYPES, Batch
from berth.errors import InvalidGguf, InvalidSettings, UnknownArchitecture
from tests.berth.engine import shared

MIB = 1024**2
GIB = 1024**3
ROWS = shared.rows()


@pytest.mark.parametrize("name", shared.MODELS, ids=lambda name: f"{name} takes what the engine says")
def test_every_byte_is_the_engines(name: str) -> None:
    rows = [row for row in ROWS if row["model"] == name]
    assert rows
    for row in rows:
        found = footprint(shared.layout(name, row["quant"]), shared.settings(row))
        told = {
            "weights": json.loads(row["weights_per_device"]),
            "cache": json.loads(row["kv_per_device"]),
            "compute": json.loads(row["compute_bytes_per_device"]),
        }
        devices = found.gpus or (found.host,)
        mine = {
            "weights": [device.weights for device in devices],
            "cache": [device.kv_cache for device in devices],
            "compute": [device.compute for device in devices],
        }
        setting = {key: row[key] for key in ("quant", "n_ctx", "n_parallel", "kv_type", "device")}
        assert (setting, mine) == (setting, told)
        if found.gpus:
            assert found.host.weights == int(row["host_weights_bytes"])
            assert found.host.kv_cache == int(row["host_kv_bytes"])
            assert found.host.compute == int(row["host_compute_bytes"])


@pytest.mark.parametrize(
    "row",
    shared.rows("engine-refusals.csv"),
    ids=lambda row: f"{row['model']} with {row['kv_type']} for {row['n_parallel']} slots is refused",
)
def test_what_the_engine_refuses_is_refused(row: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings):
        footprint(shared.layout(row["model"], row["quant"]), shared.settings(row))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        pytest.param("deepseek-v2-lite", Settings(32_768), 972 * MIB, id="latent attention keeps 576 each"),
        pytest.param("llama-3.3-70b", Settings(8192), 2560 * MIB, id="a 70B with 8K keeps 2560 MiB"),
        pytest.param(
            "deepseek-r1", Settings(32_768, cache_type_k="q8_0", cache_type_v="q8_0"), 1166.625 * MIB,
            id="DeepSeek R1 with 32K in q8_0 keeps 1166.6 MiB",
        ),
        pytest.param("qwen3-0.6b", Settings(40_960), 4480 * MIB, id="Qwen3 0.6B with 40K keeps 4.38 GiB"),
    ],
)  # fmt: skip
def test_the_cache_is_what_logs_of_the_engine_say(name: str, settings: Settings, expected: float) -> None:
    assert footprint(shared.layout(name), settings).gpus[0].kv_cache == expected


def test_every_architecture_with_a_tensor_table_has_a_graph() -> None:
    assert set(graphs.GRAPHS) == set(TABLES)


def test_an_unknown_architecture_is_never_guessed() -> None:
    known = shared.layout("llama-2-7b")
    numbers = replace(known.hyperparameters, architecture="llama5")
    with pytest.raises(UnknownArchitecture, match=r"llama5.*known are.*llama"):
        footprint(Layout(numbers, known.tensors), Settings(4096))


def _without(layout: Layout, *names: str) -> Layout:
    return Layout(
        layout.hyperparameters, tuple(tensor for tensor in layout.tensors if tensor.name not in names)
    )


@pytest.mark.parametrize(
    ("name", "changes", "dropped", "reason"),
    [
        pytest.param("llama-2-7b", {}, "blk.3.attn_k.weight", "blk.3.attn_k.weight is missing",
                     id="a layer without keys"),
        pytest.param("mixtral-8x7b", {"experts_used": (9,) * 32}, "", "uses 9 of 8",
                     id="more experts than it has"),
        pytest.param("granite-4.0-h-tiny", {"ssm_rank": 0}, "", "do not fit", id="a mixer without heads"),
    ],
)  # fmt: skip
def test_a_model_that_makes_no_sense_is_refused(
    name: str, changes: dict[str, object], dropped: str, reason: str
) -> None:
    layout = _without(shared.layout(name), dropped)
    numbers = replace(layout.hyperparameters, **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidGguf, match=reason):
        footprint(Layout(numbers, layout.tensors), Settings(4096))


def test_heads_of_no_length_end_in_an_answer() -> None:
    layout = shared.layout("llama-2-7b")
    numbers = replace(layout.hyperparameters, key_length=0, key_length_swa=0)
    settings = Settings(4096, cache_type_k="q8_0", cache_type_v="q8_0")
    assert footprint(Layout(numbers, layout.tensors), settings).gpus[0].weights > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"cache_type_v": "q8_0", "flash_attention": False}, "needs flash attention",
                     id="quantized values without flash attention"),
        pytest.param({"cache_type_k": "q9_0"}, "no cache type; there are: f32, f16", id="no such cache type"),
        pytest.param({"context": 0}, "context is 0", id="no context"),
        pytest.param({"context": 2**40}, "context is", id="more context than a number holds"),
        pytest.param({"parallel": 257}, "parallel is 257", id="more slots than the engine has"),
        pytest.param({"parallel": 0}, "parallel is 0", id="no slot"),
        pytest.param({"ubatch": 0}, "ubatch is 0", id="no tokens at once"),
        pytest.param({"gpus": 16}, "16 GPUs", id="more GPUs than the engine uses"),
        pytest.param({"gpus": 2, "tensor_split": (1, 2, 3)}, "3 shares", id="shares for other GPUs"),
        pytest.param({"gpus": 2, "tensor_split": (1, -1)}, "negative", id="a negative share"),
    ],
)  # fmt: skip
def test_settings_with_which_the_engine_would_not_start_are_refused(
    changes: dict[str, object], reason: str
) -> None:
    settings = replace(Settings(4096), **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match=reason):
        footprint(shared.layout("llama-2-7b"), settings)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        pytest.param("llama-2-7b", "f16", None, id="usual heads"),
        pytest.param("gemma-4-e4b", "q8_0", None, id="heads of 512 that share keys"),
        pytest.param("deepseek-r1", "f16", None, id="latent attention"),
        pytest.param("mistral-small-4", "f16", None, id="latent attention of 320"),
        pytest.param("bge-small-en-v1.5", "f16", "heads of 32", id="short heads"),
        pytest.param("llama-2-7b", "iq4_nl", "iq4_nl cache", id="a cache type that no kernel reads"),
    ],
)
def test_what_cuda_cannot_fuse_is_told(name: str, kind: str, expected: str | None) -> None:
    settings = Settings(4096, cache_type_k=kind, cache_type_v=kind)
    told = memory.check_settings(shared.layout(name), settings)
    assert (told == []) if expected is None else (expected in told[0])
    off = replace(settings, flash_attention=False, cache_type_v="f16", cache_type_k="f16")
    assert memory.check_settings(shared.layout(name), off) == []


@pytest.mark.parametrize(
    ("context", "parallel", "unified", "total", "slot"),
    [
        pytest.param(4096, 4, False, 4096, 1024, id="slots share the context"),
        pytest.param(4096, 4, True, 4096, 4096, id="each slot may use a unified context whole"),
        pytest.param(1000, 3, False, 1536, 512, id="each slot's part is padded"),
        pytest.param(1000, 3, True, 1024, 1024, id="a unified context is padded"),
        pytest.param(1, 2, False, 512, 256, id="a slot has at least 256 tokens"),
    ],
)
def test_contexts_are_padded_as_the_engine_does(
    context: int, parallel: int, unified: bool, total: int, slot: int
) -> None:
    batch = Batch(Settings(context, parallel, kv_unified=unified), causal=True)
    assert (batch.context, batch.slot_context) == (total, slot)


_SMALL = ("llama-3.2-1b", "gemma-3-1b", "lfm2-1.2b", "deepseek-v2-lite", "granite-4.0-h-micro", "phi-3-mini")
_TYPES = st.sampled_from(sorted(set(CACHE_TYPES) - {"iq4_nl"}))


@st.composite
def some_settings(draw: st.DrawFn) -> Settings:
    kind = draw(_TYPES)
    gpus = draw(st.integers(1, 4))
    return Settings(
        context=256 * draw(st.integers(1, 256)),
        parallel=draw(st.sampled_from((1, 2, 3, 4, 8))),
        cache_type_k=kind,
        cache_type_v=kind,
        kv_unified=draw(st.booleans()),
        ubatch=draw(st.sampled_from((64, 512, 2048))),
        gpus=gpus,
        tensor_split=tuple(draw(st.lists(st.integers(1, 3), min_size=gpus, max_size=gpus))),
    )


def _totals(layout: Layout, settings: Settings) -> list[int]:
    return [gpu.total for gpu in footprint(layout, settings).gpus]


@profile(max_examples=30, deadline=None)
@given(st.sampled_from(_SMALL), some_settings(), st.integers(1, 64))
def test_more_context_never_takes_less(name: str, settings: Settings, steps: int) -> None:
    layout = shared.layout(name)
    more = replace(settings, context=settings.context + 256 * steps * settings.parallel)
    assert all(a <= b for a, b in zip(_totals(layout, settings), _totals(layout, more), strict=True))


@profile(max_examples=30, deadline=None)
@given(st.sampled_from(_SMALL), some_settings())
def test_more_slots_of_the_same_length_never_take_less(name: str, settings: Settings) -> None:
    layout = shared.layout(name)
    slot = max(settings.context // settings.parallel, 512)
    fewer = replace(settings, context=slot * settings.parallel, kv_unified=False)
    more = replace(fewer, context=2 * slot * settings.parallel, parallel=2 * settings.parallel)
    kept = [gpu.kv_cache + gpu.weights for gpu in footprint(layout, fewer).gpus]
    assert all(a <= b.kv_cache + b.weights for a, b in zip(kept, footprint(layout, more).gpus, strict=True))


@profile(max_examples=30, deadline=None)
@given(st.sampled_from(_SMALL), some_settings())
def test_a_few_layers_reach_the_peak_of_all(name: str, settings: Settings) -> None:
    layout = shared.layout(name)
    numbers = layout.hyperparameters
    batch = Batch(settings, numbers.causal)
    placement = place(numbers.layers, settings.gpus, settings.tensor_split)
    assert replay.compute(layout, batch, placement) == replay.compute_all(layout, batch, placement)


@profile(max_examples=15, deadline=None)
@given(
    st.sampled_from(_SMALL),
    st.integers(1, 8),
    st.sampled_from((1, 4)),
    st.booleans(),
    st.sampled_from((None, "NVIDIA L4", "NVIDIA H100 80GB")),
)
def test_the_largest_context_is_the_last_that_fits(
    name: str, gigabytes: int, parallel: int, unified: bool, gpu: str | None
) -> None:
    layout = shared.layout(name)
    overhead = memory.overhead(gpu)
    capacity = layout.size + gigabytes * GIB
    settings = Settings(1, parallel, kv_unified=unified)
    found = largest_context(layout, settings, capacity, overhead, 131_072)

    def fits(slot: int) -> bool:
        asked = replace(settings, context=slot * (1 if unified else parallel))
        return footprint(layout, asked, overhead).gpus[0].total <= capacity

    assert found % 256 == 0
    assert found == 0 or fits(found)
    assert found == 131_072 or not fits(found + 256)
    near = largest_context(layout, settings, capacity, overhead, 131_072, nearly=True)
    assert near % 256 == 0
    assert near == 0 or fits(near)
    assert found - found // 32 - 256 <= near <= found


def test_no_context_fits_where_the_weights_do_not() -> None:
    assert largest_context(shared.layout("llama-2-7b"), Settings(1), GIB, None, 4096) == 0


class TestOverhead:
    def test_without_a_gpu_the_total_is_the_engines_own(self) -> None:
        gpu = footprint(shared.layout("llama-2-7b"), Settings(4096), memory.overhead(None)).gpus[0]
        assert gpu.overhead == 0
        assert gpu.total == gpu.weights + gpu.kv_cache + gpu.compute

    def test_it_counts_on_every_gpu(self) -> None:
        found = footprint(shared.layout("llama-2-7b"), Settings(4096, gpus=2), memory.overhead("L4"))
        assert all(gpu.overhead > 300 * MIB for gpu in found.gpus)
        assert all(gpu.total == gpu.weights + gpu.kv_cache + gpu.compute + gpu.overhead for gpu in found.gpus)

    def test_a_quantized_cache_adds_half_precision_copies_of_one_layer(self) -> None:
        layout = shared.layout("llama-2-7b")
        plain, quantized = (
            footprint(layout, Settings(32_768, cache_type_k=kind, cache_type_v=kind), memory.overhead("A100"))
            .gpus[0]
            .overhead
            for kind in ("f16", "q8_0")
        )
        assert quantized - plain == 2 * 32_768 * 4096 * 2

    @pytest.mark.parametrize(
        ("name", "capability"),
        [
            pytest.param("NVIDIA V100 16GB", 7.0, id="Volta"),
            pytest.param("NVIDIA A10G", 8.6, id="the A10G is no A10 of another kind"),
            pytest.param("NVIDIA A100 80GB", 8.0, id="Ampere"),
            pytest.param("NVIDIA L40S", 8.9, id="Ada"),
            pytest.param("NVIDIA H200", 9.0, id="Hopper"),
            pytest.param("NVIDIA RTX PRO 6000 Blackwell Server Edition", 12.0, id="Blackwell"),
            pytest.param("NVIDIA X9000", 12.0, id="an unknown GPU counts as the newest"),
        ],
    )
    def test_a_gpu_is_known_by_its_name(self, name: str, capability: float) -> None:
        found = memory.overhead(name)
        assert found is not None
        assert found.compute_capability == capability
        assert found.estimated

    def test_before_turing_whole_matrices_are_widened(self) -> None:
        layout, settings = shared.layout("llama-2-7b"), Settings(4096)
        volta, turing = (
            footprint(layout, settings, memory.overhead(name)).gpus[0].overhead for name in ("V100", "T4")
        )
        assert volta - turing > 2 * 4096 * 11_008


def test_trained_context_is_the_files_own() -> None:
    numbers = shared.layout("qwen3-8b").hyperparameters
    assert memory.trained_context(shared.layout("qwen3-8b")) == numbers.trained_context == 40_960
