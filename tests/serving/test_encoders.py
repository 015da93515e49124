"""Embeddings and reranking through the front, by the real engine on encoders of a few kilobytes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import openai
import pytest

from tests.serving import fronts, tiny_models

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def test_openais_client_gets_embeddings(engine: Engine, tmp_path: Path) -> None:
    model = tiny_models.write(tmp_path / "embedder.gguf", tiny_models.MEAN)
    with (
        fronts.running(engine, model, tmp_path, "--parallel", "2") as front,
        openai.OpenAI(base_url=f"{front.url}/v1", api_key="any", max_retries=0, timeout=60) as client,
    ):
        texts = ["the ship sails", "the ship sails the sea", "tax law court"]
        answer = client.embeddings.create(model="smol", input=texts)
        assert [item.index for item in answer.data] == [0, 1, 2]
        first, near, far = (item.embedding for item in answer.data)
        assert len(first) == tiny_models.WIDTH
        assert math.isclose(sum(value * value for value in first), 1, rel_tol=1e-3)
        assert similarity(first, near) > similarity(first, far) + 0.2
        assert answer.usage.prompt_tokens > 9
        alone = client.embeddings.create(model="smol", input=texts[0], encoding_format="float")
        assert similarity(alone.data[0].embedding, first) > 0.999
        many = client.embeddings.create(model="smol", input=["sea"] * 40)
        assert len(many.data) == 40
        with pytest.raises(openai.APIStatusError, match="does not support logits"):
            client.chat.completions.create(model="smol", messages=[{"role": "user", "content": "Hi"}])
        assert front.metric("berth_prompt_tokens_sum") > 0


def test_documents_are_ranked(engine: Engine, tmp_path: Path) -> None:
    model = tiny_models.write(tmp_path / "ranker.gguf", tiny_models.RANK)
    with fronts.running(engine, model, tmp_path, "--parallel", "2") as front:
        documents = ["the sea", "tax law says the court", "ship harbour wind"]
        asked = {"model": "smol", "query": "the ship sails", "documents": documents}
        status, answer = front.post("/v1/rerank", asked)
        assert status == 200, answer
        assert {result["index"] for result in answer["results"]} == {0, 1, 2}
        scores = [result["relevance_score"] for result in answer["results"]]
        assert all(map(math.isfinite, scores))
        assert len(set(scores)) == 3
        assert scores == sorted(scores, reverse=True)
        again = front.post("/rerank", {**asked, "top_n": 1})[1]["results"]
        assert [result["index"] for result in again] == [answer["results"][0]["index"]]
        assert answer["usage"]["prompt_tokens"] > 9


def similarity(one: list[float], other: list[float]) -> float:
    """The cosine between two vectors of length 1."""
    return sum(left * right for left, right in zip(one, other, strict=True))
