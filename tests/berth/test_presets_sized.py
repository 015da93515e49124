"""Every preset can be sized, as it is served where a spec says no more than its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from berth import catalog
from berth.engine.memory import Settings, footprint

if TYPE_CHECKING:
    from berth.models import Model


@pytest.mark.parametrize("model", catalog.load().models, ids=lambda model: model.name)
def test_a_preset_can_be_sized_at_its_default_context(model: Model) -> None:
    embeds = model.task in ("embedding", "rerank")
    batch = model.default_context if embeds else 2048
    ubatch = model.default_context if embeds else 512
    settings = Settings(context=model.default_context, batch=batch, ubatch=ubatch, embeddings=embeds)
    (gpu,) = footprint(model.layout(), settings).gpus
    assert gpu.weights > 0
    assert gpu.compute > 0
    assert gpu.total >= gpu.weights + gpu.kv_cache + gpu.compute
