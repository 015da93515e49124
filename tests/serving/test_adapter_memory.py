"""What adapters add to the engine's compute buffer, for every generating architecture of the catalogue.

The plan takes each matrix of the model as changed by each adapter; here real adapters change all those that
the engine lets them. It must never take more than is planned, and the plan should not be far above.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from berth.engine.memory import footprint
from tests.serving import lora, test_engine_memory
from tools import measure_engine, sparse_gguf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from berth.plans import Memory
    from tests.serving.conftest import Engine

pytestmark = pytest.mark.slow

GENERATING = sorted(
    architecture
    for architecture, (_, model) in test_engine_memory.SMALLEST.items()
    if test_engine_memory.rows(model)[0]["n_outputs_max"] == 2
)
NOT_ADAPTED = ("norm", "conv1d", "ssm_a", "ssm_d")
"""What the engine multiplies with nothing, so that no adapter changes it."""
RANKS = (16, 64)
HIGHEST = 1.3


def quantization(architecture: str) -> str:
    return "MXFP4_MOE" if architecture == "gpt-oss" else "Q4_K_M"


UNTIED = [
    architecture
    for architecture in GENERATING
    if not measure_engine.layout(
        test_engine_memory.SMALLEST[architecture][1], quantization(architecture)
    ).tied
]
"""The engine aborts where the output is the embedding's own matrix and an adapter changes it."""


def adapted(name: str) -> bool:
    return (
        name.startswith("blk.") and name.endswith(".weight") and not any(one in name for one in NOT_ADAPTED)
    )


@pytest.mark.parametrize("architecture", GENERATING, ids=lambda name: f"{name} stays below the plan")
def test_adapters_take_no_more_than_is_planned(engine: Engine, tmp_path: Path, architecture: str) -> None:
    measured, planned, _ = both(engine, tmp_path, architecture, adapted)
    assert measured["compute_bytes"] <= planned.gpus[0].compute <= HIGHEST * measured["compute_bytes"]
    assert measured["host_compute_bytes"] <= planned.host.compute


@pytest.mark.parametrize("architecture", UNTIED, ids=lambda name: f"{name} stays below the plan")
def test_the_embeddings_adapters_are_copied_into_what_the_plan_counts_as_weights(
    engine: Engine, tmp_path: Path, architecture: str
) -> None:
    """They lie on the host, so that the bytes of their files are free on the GPU for copies of them."""

    def with_embedding(name: str) -> bool:
        return adapted(name) or name == lora.EMBEDDING

    measured, planned, files = both(engine, tmp_path, architecture, with_embedding)
    held = sum(
        tensor.size
        for file in files
        for tensor in lora.header(file).tensors
        if not tensor.name.startswith(lora.EMBEDDING)
    )
    counted = sum(file.stat().st_size for file in files)
    assert held + measured["compute_bytes"] <= counted + planned.gpus[0].compute
    assert measured["host_compute_bytes"] <= planned.host.compute


def both(
    engine: Engine, tmp_path: Path, architecture: str, names: Callable[[str], bool]
) -> tuple[dict[str, Any], Memory, list[Path]]:
    """What the real engine takes with adapters and what is planned for them, and their files."""
    name, model = test_engine_memory.SMALLEST[architecture]
    model = test_engine_memory.shrunk(model)
    layout = measure_engine.layout(model, quantization(architecture))
    base = tmp_path / "base.gguf"
    keys = sparse_gguf.engine_metadata(measure_engine.metadata(model), model["vocabulary"])
    sparse_gguf.write(base, keys, layout.tensors)
    files = [lora.write(tmp_path / f"{rank}.gguf", base, lora.tensors(base, rank, names)) for rank in RANKS]
    row = {**test_engine_memory.rows(model)[0], "adapters": [str(file) for file in files]}
    measurer = measure_engine.Measurer(engine.folder, tmp_path, allocate=True)
    (measured,) = measurer.rows(name, model, [(quantization(architecture), row)])
    assert "refused" not in measured
    settings = replace(
        test_engine_memory.settings(row), adapters=tuple(file.stat().st_size for file in files)
    )
    return measured, footprint(layout, settings), files
