"""Every preset is complete, and its tensors add up to what the publisher counts."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest

from berth import catalog, models
from berth.engine import architectures
from berth.engine.gguf import Header
from berth.entries import InvalidEntry
from berth.errors import UnknownQuantization

PRESETS = catalog.load().models
PARAMETER_TOLERANCE = 0.005
ENTRY: dict[str, Any] = {
    "name": "tiny",
    "aliases": ["Example/Tiny"],
    "metadata": {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 16384,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
    },
    "vocabulary": 1000,
    "quantizations": ["F16", "Q8_0"],
    "defaultQuantization": "Q8_0",
    "files": [{"repository": "example/tiny-gguf", "file": "tiny-{q}.gguf", "quantizations": ["Q8_0"]}],
}


every_preset = pytest.mark.parametrize("model", PRESETS, ids=lambda model: model.name)


@every_preset
def test_a_preset_has_every_field(model: models.Model) -> None:
    assert model.title
    assert model.family
    assert model.license
    assert model.license_url is not None
    assert model.published_parameters is not None
    assert model.sources
    assert model.default_quantization in model.quantizations
    assert set(model.features) <= set(architectures.FEATURES)
    assert 0 < model.default_context <= model.trained_context
    if model.architecture != "gpt-oss":
        assert {"F16", "Q8_0"} <= set(model.quantizations)


@every_preset
def test_a_preset_tells_where_its_facts_stand(model: models.Model) -> None:
    assert model.published_parameters is not None
    for source in (*model.sources, model.published_parameters.source):
        assert source.url.startswith("https://")
        assert datetime.date(2022, 1, 1) < source.date < datetime.date(2030, 1, 1)
    assert model.source == model.sources[0].url


@every_preset
def test_a_preset_has_the_published_number_of_parameters(model: models.Model) -> None:
    published = model.published_parameters
    assert published is not None
    expected = published.count - published.counted_twice - published.not_in_gguf
    counted = sum(math.prod(tensor.shape) for tensor in model.layout().tensors)
    assert counted == pytest.approx(expected, rel=PARAMETER_TOLERANCE)


@every_preset
def test_a_preset_has_a_layout_in_each_quantization(model: models.Model) -> None:
    sizes = {name: model.layout(name).size for name in model.quantizations}
    assert all(size > 0 for size in sizes.values())
    if "F16" in sizes:
        assert sizes["F16"] == max(sizes.values())
        assert sizes["Q8_0"] < sizes["F16"]


@every_preset
def test_a_file_that_is_pinned_has_a_repository(model: models.Model) -> None:
    for file in model.quantizations.values():
        if file.sha256 or file.revision or file.size:
            assert file.repository
        assert file.file.endswith(".gguf")
        assert "{" not in file.file
        assert (file.location is None) == (file.repository is None)


def test_an_entry_becomes_a_model() -> None:
    model = models.parse(ENTRY)
    assert model.title == "tiny"
    assert model.trained_context == 16384
    assert model.default_context == models.LONGEST_DEFAULT_CONTEXT
    assert model.quantizations["Q8_0"].location == "example/tiny-gguf/tiny-q8_0.gguf"
    assert model.quantizations["F16"].location is None
    assert model.layout("q8_0") is model.layout("Q8_0")
    with pytest.raises(UnknownQuantization, match="write one of F16, Q8_0"):
        model.layout("Q4_K_M")


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        pytest.param({"vocabulary": 0}, "models[3].vocabulary", "greater than 0", id="no vocabulary"),
        pytest.param({"licence": "mit"}, "models[3].licence", "no model has this field", id="unknown field"),
        pytest.param({"name": None}, "models[3].name", "valid string", id="no name"),
        pytest.param(
            {"defaultQuantization": "Q4_K_M"}, "models[3]", "not among", id="default is not offered"
        ),
        pytest.param(
            {"quantizations": ["Q9"]}, "models[3].quantizations[0]", "input should be", id="unknown type"
        ),
        pytest.param(
            {"metadata": {}}, "models[3]", "no general.architecture", id="metadata without an architecture"
        ),
        pytest.param(
            {"sources": [{"url": "ftp://example.com", "date": "2026-01-01"}]},
            "models[3].sources[0].url",
            "https://",
            id="source that is no address",
        ),
    ],
)
def test_a_broken_entry_is_told_with_its_path(change: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        models.parse({**ENTRY, **change}, ("models", 3))
    (problem, *_) = caught.value.problems
    assert problem.field == field
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        pytest.param({"title": "Tiny, renamed"}, False, id="a title"),
        pytest.param({"aliases": []}, False, id="an alias"),
        pytest.param({"license": "mit"}, False, id="a licence"),
        pytest.param({"vocabulary": 2000}, True, id="the vocabulary"),
        pytest.param({"defaultContext": 4096}, True, id="the default context"),
        pytest.param({"features": {"tied": True}}, True, id="a feature"),
        pytest.param({"defaultQuantization": "F16"}, True, id="the default quantization"),
        pytest.param({"files": []}, True, id="where the file is"),
    ],
)
def test_the_digest_changes_with_what_a_plan_depends_on(change: dict[str, Any], changes: bool) -> None:
    assert (models.parse({**ENTRY, **change}).digest != models.parse(ENTRY).digest) == changes


@pytest.mark.parametrize(
    ("metadata", "task"),
    [
        pytest.param({"tokenizer.chat_template": "{{ messages }}"}, "chat", id="with a chat template"),
        pytest.param({}, "completion", id="without a template"),
        pytest.param({"llama.pooling_type": 3}, "embedding", id="that pools the last token"),
        pytest.param({"llama.attention.causal": False}, "embedding", id="that is not causal"),
        pytest.param({"llama.pooling_type": 4}, "rerank", id="that ranks"),
    ],
)
def test_a_header_becomes_a_model(metadata: dict[str, Any], task: str) -> None:
    preset = models.parse(ENTRY)
    header = Header(
        metadata={**preset.metadata, "general.file_type": 7, "llama.vocab_size": 1000, **metadata},
        tensors=preset.layout("Q8_0").tensors,
        version=3,
        alignment=32,
        data_offset=0,
        file_size=0,
        split_count=0,
        split_number=0,
    )
    model = models.from_header("tiny.gguf", header)
    assert model.task == task
    assert model.default_quantization == "Q8_0"
    assert model.layout().size == preset.layout("Q8_0").size
    assert model.digest.startswith("sha256:")
