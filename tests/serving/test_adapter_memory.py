"""What adapters add to the engine's compute buffer, for every generating architecture of the catalogue.

The plan takes each matrix of the model as changed by each adapter; here real adapters change all those that
the engine lets them. It must never take more than is planned, and the plan should not be far above.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from berth.engine.memory import footprint
from tests.serving import lora, test_engine_memory
from tools import measure_engine, sparse_gguf

if TYPE_CHECKING:
    from pathlib import Path

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


def adapted(name: str) -> bool:
    return (
        name.startswith("blk.") and name.endswith(".weight") and not any(one in name for one in NOT_ADAPTED)
    )


@pytest.mark.parametrize("architecture", GENERATING, ids=lambda name: f"{name} stays below the plan")
def test_adapters_take_no_more_than_is_planned(engine: Engine, tmp_path: Path, architecture: str) -> None:
    name, model = test_engine_memory.SMALLEST[architecture]
    model = test_engine_memory.shrunk(model)
    quantization = "MXFP4_MOE" if architecture == "gpt-oss" else "Q4_K_M"
    layout = measure_engine.layout(model, quantization)
    base = tmp_path / "base.gguf"
    keys = sparse_gguf.engine_metadata(measure_engine.metadata(model), model["vocabulary"])
    sparse_gguf.write(base, keys, layout.tensors)
    files = [lora.write(tmp_path / f"{rank}.gguf", base, lora.tensors(base, rank, adapted)) for rank in RANKS]
    row = {**test_engine_memory.rows(model)[0], "adapters": [str(file) for file in files]}
    measurer = measure_engine.Measurer(engine.folder, tmp_path, allocate=True)
    (measured,) = measurer.rows(name, model, [(quantization, row)])
    assert "refused" not in measured
    settings = replace(
        test_engine_memory.settings(row), adapters=tuple(file.stat().st_size for file in files)
    )
    planned = footprint(layout, settings)
    assert measured["compute_bytes"] <= planned.gpus[0].compute <= HIGHEST * measured["compute_bytes"]
    assert measured["host_compute_bytes"] <= planned.host.compute
