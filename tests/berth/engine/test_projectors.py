"""What a projector's metadata tell. Its bytes: tests/serving/test_projector_memory.py."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berth.engine import projectors
from berth.engine.projectors import cuda
from berth.errors import BerthError, InvalidGguf, InvalidSettings, UnknownProjector

GEMMA3: dict[str, Any] = {
    "general.architecture": "clip",
    "clip.projector_type": "gemma3",
    "clip.vision.image_size": 896,
    "clip.vision.patch_size": 14,
    "clip.vision.embedding_length": 1152,
    "clip.vision.feed_forward_length": 4304,
    "clip.vision.block_count": 27,
    "clip.vision.attention.head_count": 16,
    "clip.vision.projection_dim": 2560,
}
PIXTRAL = {
    **GEMMA3,
    "clip.projector_type": "pixtral",
    "clip.vision.image_size": 1540,
    "clip.vision.spatial_merge_size": 2,
}


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        pytest.param(
            {"clip.projector_type": "resampler"}, UnknownProjector, "'resampler'; known are: ",
            id="a type that is not written down is refused by name",
        ),
        pytest.param({"clip.projector_type": None}, UnknownProjector, "''", id="a type is needed"),
        pytest.param({"clip.has_audio_encoder": True}, UnknownProjector, "sounds", id="sounds are refused"),
        pytest.param(
            {
                "clip.projector_type": "gemma4uv", "clip.has_audio_encoder": True,
                "clip.audio.projector_type": "gemma4a",
            },
            UnknownProjector, "sounds", id="sounds of another kind than the type's own are refused",
        ),
        pytest.param({"general.architecture": "llama"}, InvalidGguf, "'llama'", id="a model is no projector"),
        pytest.param(
            {"clip.vision.patch_size": 0}, InvalidGguf, "clip.vision.patch_size is 0",
            id="a number of no sense is refused with its key",
        ),
        pytest.param(
            {"clip.vision.block_count": None}, InvalidGguf, "clip.vision.block_count is missing",
            id="a number that is missing is named",
        ),
        pytest.param({"clip.vision.image_size": 14}, InvalidGguf, "14", id="an image has a token at least"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused(
    changed: dict[str, Any], kind: type[BerthError], said: str
) -> None:
    metadata = {key: value for key, value in {**GEMMA3, **changed}.items() if value is not None}
    with pytest.raises(kind, match=said):
        projectors.parse(metadata)


def test_an_image_of_one_size_takes_no_bound() -> None:
    projector = projectors.parse(GEMMA3)
    assert not projector.dynamic
    with pytest.raises(InvalidSettings, match="gemma3 scales all to one size"):
        projector.memory(0, 512)


def test_gemma_3_reads_its_256_tokens_in_one_piece() -> None:
    projector = projectors.parse(GEMMA3)
    assert projector.image_tokens() == 256 + 2
    assert projector.whole_image() == 256


def test_the_host_holds_what_the_engine_writes() -> None:
    pixels = 896 * 896 * 3 * 4
    memory = projectors.parse(GEMMA3).memory(0)
    assert memory.host == pixels
    assert projectors.parse(GEMMA3).memory(0, gpus=0).host == 0


def test_cuda_takes_a_pool_of_its_own_for_the_dearest_step() -> None:
    memory = projectors.parse(GEMMA3).memory(0)
    partial_results = 4 * (64 * 64) * 1152 * 4
    assert memory.pool - cuda.WORKSPACE == -(-partial_results // 2**21) * 2**21
    assert projectors.parse(GEMMA3).memory(0, gpus=0).pool == 0


def test_without_fused_attention_the_dearest_step_is_a_product() -> None:
    memory = projectors.parse(GEMMA3).memory(0, flash_attention=False)
    patches, narrow, wide = 64 * 64, 1152, 4304
    operands = 2 * (patches * (narrow + wide) + narrow * wide)
    assert memory.pool - cuda.WORKSPACE == -(-operands // 2**21) * 2**21


@pytest.mark.parametrize(
    ("bound", "tokens"),
    [
        pytest.param(None, 1023 + 340, id="rows of three tokens have most marks"),
        pytest.param(400, 400 + 199, id="rows of two tokens, as no image is longer"),
        pytest.param(100, 100 + 99, id="rows of one token"),
        pytest.param(8, 29 + 28, id="a low bound does not hold for the longest image"),
    ],
)
def test_a_long_image_has_most_marks(bound: int | None, tokens: int) -> None:
    assert projectors.parse(PIXTRAL).image_tokens(bound) == tokens + 2


def test_where_pixtral_merges_patches_cudas_host_holds_them() -> None:
    projector = projectors.parse(PIXTRAL)
    patches = 4 * 1024 * 1152 * 4
    pixels, positions = 896 * 896 * 3 * 4, 2 * 64 * 64 * 4
    assert projectors.buffers(projector, (64, 64))[1] == pixels + positions
    assert 2 * patches <= projector.memory(0).host <= 2.1 * patches


def test_a_bound_below_the_types_own_least_is_refused() -> None:
    gemma4 = projectors.parse({**GEMMA3, "clip.projector_type": "gemma4v"})
    assert gemma4.memory(0, 70).compute < gemma4.memory(0, 140).compute < gemma4.memory(0).compute
    with pytest.raises(InvalidSettings, match="gemma4v needs 70 or more"):
        gemma4.memory(0, 69)


@pytest.mark.parametrize(("text", "whole"), [(3840, 1120), (2560, 0), (1536, 0)])
def test_only_the_larger_gemma_4_read_an_image_in_one_piece(text: int, whole: int) -> None:
    metadata = {**GEMMA3, "clip.projector_type": "gemma4v", "clip.vision.projection_dim": text}
    assert projectors.parse(metadata).whole_image() == whole


def test_the_images_of_a_request_lie_scaled_in_the_hosts_memory() -> None:
    assert projectors.parse(GEMMA3).request_bytes() == 16 * 896 * 896 * 3 * 4 * 3
    gemma4 = projectors.parse({**GEMMA3, "clip.projector_type": "gemma4v"})
    assert gemma4.request_bytes(280) < gemma4.request_bytes(560) < gemma4.request_bytes()


def numbers(**values: int) -> dict[str, int]:
    return {f"clip.vision.{key.replace('__', '.')}": value for key, value in values.items()}


WIDE = numbers(
    embedding_length=1024, feed_forward_length=4096, block_count=24, attention__head_count=16,
    spatial_merge_size=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "own", "side", "gpu", "host"),
    [
        # github.com/ggml-org/llama.cpp/issues/27892: Ministral 3 8B, 448 x 448 pixels
        pytest.param(
            "pixtral", numbers(image_size=1540, patch_size=14, projection_dim=4096), 448, "64.55", "8.00",
            id="Ministral 3 8B",
        ),
        # github.com/ggml-org/llama.cpp/pull/22673: Qwen3.5 4B, 1472 x 1472 pixels
        pytest.param(
            "qwen3vl_merger", numbers(image_size=768, patch_size=16, projection_dim=2560), 1472, "223.30",
            None, id="Qwen3.5 4B",
        ),
    ],
)  # fmt: skip
def test_others_logs_of_cuda_tell_the_same(
    kind: str, own: dict[str, int], side: int, gpu: str, host: str | None
) -> None:
    projector = projectors.parse({**GEMMA3, "clip.projector_type": kind, **WIDE, **own})
    patches = side // projector.numbers.patch
    told = projectors.buffers(projector, (patches, patches), cuda=True)
    assert f"{told[0] / 2**20:.2f}" == gpu
    assert host is None or f"{told[1] / 2**20:.2f}" == host


def test_attention_that_cuda_has_no_kernel_for_is_the_hosts() -> None:
    llama4 = {**GEMMA3, "clip.projector_type": "llama4", **numbers(image_size=336, projector__scale_factor=2)}
    known = projectors.parse(llama4)
    other = projectors.parse({**llama4, "clip.vision.embedding_length": 1408})
    assert (known.numbers.head, other.numbers.head) == (72, 88)
    pixels = 336 * 336 * 3 * 4
    assert known.memory(0).host < 1.1 * pixels
    query_key_value_result = 4 + 2 + 2 + 4
    assert other.memory(0).host == query_key_value_result * 577 * 1408


@given(
    kind=st.sampled_from(projectors.KNOWN),
    values=st.dictionaries(
        st.sampled_from([
            "image_size", "patch_size", "embedding_length", "feed_forward_length", "block_count",
            "attention.head_count", "attention.head_dim", "projection_dim", "spatial_merge_size",
            "projector.scale_factor", "n_wa_pattern", "preproc_image_size", "preproc_max_tiles",
            "feature_layer", "image_grid_pinpoints", "is_deepstack_layers",
        ]),
        st.one_of(
            st.integers(-2, 40), st.integers(0, 2**41), st.text(max_size=2), st.booleans(),
            st.lists(st.integers(0, 2000), max_size=5),
        ),
    ),
    bound=st.none() | st.integers(-1, 2**20),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_numbers_are_counted_or_refused(kind: str, values: dict[str, Any], bound: int | None) -> None:
    metadata = {**GEMMA3, "clip.vision.block_count": 2, "clip.projector_type": kind}
    metadata |= {f"clip.vision.{key}": value for key, value in values.items()}
    with contextlib.suppress(BerthError):
        projector = projectors.parse(metadata)
        memory = projector.memory(1, bound)
        assert min(memory.compute, memory.host, memory.pool) > 0
        assert projector.image_tokens(bound) >= 0
        assert projector.request_bytes(bound) > 0
