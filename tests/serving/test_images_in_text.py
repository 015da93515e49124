"""What images change in the text model's own compute buffer: nothing that the plan does not count already.

The engine reserves for embeddings as for words, so that a batch of an image's tokens finds its place, also
where they are read in one piece, at positions of three dimensions, or with results for several layers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from berth.engine import projectors
from berth.engine.memory import Settings, footprint
from tests.serving import images, test_engine_memory, tiny_projectors
from tools import measure_engine, sparse_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = pytest.mark.slow

CONTEXT, BATCH = 2048, 512
KINDS = {
    "gemma3": "gemma3", "gemma4": "gemma4v", "llama": "mlp", "mistral3": "pixtral",
    "qwen35": "qwen3vl_merger", "qwen3vl": "qwen3vl_merger",
}  # fmt: skip
"""A projector's type for architectures that see images."""
MODELS = test_engine_memory.SMALLEST | {"qwen3vl": ("qwen3-vl-8b", measure_engine.models()["qwen3-vl-8b"])}
_TOLD = re.compile(r"~llama_context: +CPU compute buffer size is +([\d.]+) MiB, (.*)")


@pytest.mark.parametrize("architecture", sorted(KINDS))
def test_images_take_no_more_of_the_text_models_buffer(
    engine: Engine, tmp_path: Path, architecture: str
) -> None:
    _, model = MODELS[architecture]
    model = test_engine_memory.shrunk(model)
    deep = model["metadata"].get("n_deepstack_layers", 0)
    model["metadata"]["block_count"] = max(deep + 1, model["metadata"]["block_count"])
    layout = measure_engine.layout(model, "F16")
    text = tmp_path / "text.gguf"
    keys = measure_engine.metadata(model) | tiny_projectors.words(model["vocabulary"])
    sparse_gguf.write(text, sparse_gguf.engine_metadata(keys, model["vocabulary"]), layout.tensors)
    numbers = layout.hyperparameters
    width = numbers.embedding * (1 + numbers.deepstack_layers)
    batch = ["--batch-size", str(BATCH), "--ubatch-size", str(BATCH), "--ctx-size", str(CONTEXT)]
    if KINDS[architecture] != "mlp":
        batch += ["--image-max-tokens", "256"]
    with images.serving(engine, tmp_path, KINDS[architecture], *batch, text=text, width=width) as server:
        found = server.ask([tiny_projectors.picture(900, 900)])
        assert found["usage"]["prompt_tokens"] > 60
        server.stop()
        told = _TOLD.search(server.log.read_text(errors="replace"))
    assert told is not None
    size, comment = told.groups()
    assert comment.startswith("matches expectation")
    planned = footprint(layout, Settings(CONTEXT, gpus=0, batch=BATCH, ubatch=BATCH)).host.compute
    assert f"{planned / 2**20:.4f}" == size


def test_an_image_that_is_read_in_one_piece_ends_an_engine_of_smaller_batches(
    engine: Engine, tmp_path: Path
) -> None:
    assert projectors.parse(tiny_projectors.metadata("gemma3")).whole_image() == 64
    with images.serving(engine, tmp_path, "gemma3", "--ubatch-size", "63") as server:
        with pytest.raises(ConnectionError):
            server.ask([tiny_projectors.picture(448, 448)])
        assert server.process.wait(images.ANSWER_SECONDS) != 0


def test_other_images_are_read_in_parts(engine: Engine, tmp_path: Path) -> None:
    assert projectors.parse(tiny_projectors.metadata("pixtral")).whole_image() == 0
    with images.serving(engine, tmp_path, "pixtral", "--ubatch-size", "63") as server:
        assert server.ask([tiny_projectors.picture(448, 448)])["usage"]["prompt_tokens"] > 64


def test_a_batch_of_an_images_tokens_is_enough(engine: Engine, tmp_path: Path) -> None:
    with images.serving(engine, tmp_path, "gemma3", "--ubatch-size", "64", "--batch-size", "64") as server:
        assert server.ask([tiny_projectors.picture(448, 448)])["usage"]["prompt_tokens"] > 64
