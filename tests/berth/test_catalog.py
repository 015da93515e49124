"""Names are found, nearest names proposed, and a fleet file's entries judged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from berth import catalog
from berth.entries import InvalidEntry
from berth.errors import UnknownInstanceType, UnknownModel

CATALOG = catalog.load()
FIRST_OF_KAITO = (
    "falcon-7b", "falcon-7b-instruct", "falcon-40b", "falcon-40b-instruct",
    "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-2-7b-chat", "llama-2-13b-chat", "llama-2-70b-chat",
)  # fmt: skip
LATER_OF_KAITO = (
    "mistral-7b", "mistral-7b-instruct", "phi-2", "phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct",
    "phi-3.5-mini-instruct", "phi-3-medium-4k-instruct", "phi-3-medium-128k-instruct", "phi-4",
    "phi-4-mini-instruct", "qwen2.5-coder-7b-instruct", "qwen2.5-coder-32b-instruct",
    "deepseek-r1-distill-llama-8b", "deepseek-r1-distill-qwen-14b", "deepseek-r1-0528", "deepseek-v3-0324",
    "llama-3.1-8b-instruct", "llama-3.3-70b-instruct", "gpt-oss-20b", "gpt-oss-120b", "gemma-3-4b-instruct",
    "gemma-3-27b-instruct", "ministral-3-3b-instruct", "ministral-3-8b-instruct", "ministral-3-14b-instruct",
    "mistral-large-3-675b-instruct",
)  # fmt: skip
MODEL: dict[str, Any] = {
    "name": "tiny",
    "metadata": {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 2048,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
    },
    "vocabulary": 1000,
    "quantizations": ["Q8_0"],
    "defaultQuantization": "Q8_0",
}
INSTANCE: dict[str, Any] = {
    "name": "own-a100",
    "gpuModel": "ours",
    "gpuCount": 2,
    "gpuMemory": "40Gi",
    "computeCapability": 8.0,
}


@pytest.mark.parametrize("name", FIRST_OF_KAITO + LATER_OF_KAITO)
def test_presets_of_every_era_of_kaito_are_found_by_their_names(name: str) -> None:
    assert name in CATALOG.model(name).names
    assert CATALOG.model(name.upper()) is CATALOG.model(name)


def test_at_least_45_presets() -> None:
    assert len(CATALOG.models) >= 45
    assert CATALOG.model_names == tuple(model.name for model in CATALOG.models)
    assert list(CATALOG.model_names) == sorted(CATALOG.model_names)


def test_no_two_presets_share_a_name() -> None:
    names = [name.casefold() for model in CATALOG.models for name in model.names]
    assert sorted(names) == sorted(set(names))


def test_no_unsupported_preset_is_a_preset_too() -> None:
    names = {name.casefold() for model in CATALOG.models for name in model.names}
    assert CATALOG.unsupported
    assert names.isdisjoint(CATALOG.unsupported)


def test_the_names_found_in_the_text_are_those_of_the_data() -> None:
    for shelf in CATALOG.shelves:
        entries = yaml.safe_load(shelf.text)["models"]
        assert shelf.names == tuple((entry["name"], *entry.get("aliases", ())) for entry in entries)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("falcon-7", "the nearest are falcon-7b, ", id="a shortened name"),
        pytest.param("lama-2-7b", "llama-2-7b", id="a misspelt name"),
        pytest.param("Qwen/Qwen3-8", "Qwen/Qwen3-8B", id="an HF id, in its own spelling"),
        pytest.param("????", "`berth presets` lists them", id="nothing near"),
        pytest.param(
            "Qwen/Qwen3-8B-AWQ", "cannot be served here: an AWQ checkpoint", id="a preset without GGUF"
        ),
        pytest.param("qwen/qwen3-8b-awq", "take qwen3-8b", id="the same in lower case, with what to take"),
    ],
)
def test_an_unknown_model_is_told_with_what_to_write(name: str, expected: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        CATALOG.model(name)
    assert expected in str(caught.value)
    assert repr(name) in str(caught.value)
    assert str(caught.value).count("; ") >= 1


def test_an_unknown_instance_type_is_told_with_the_nearest() -> None:
    extended = CATALOG.extended(instance_types=[INSTANCE])
    with pytest.raises(UnknownInstanceType, match="the nearest is own-a100"):
        extended.instance_type("own-a10")
    assert extended.instance_type("OWN-A100").gpu_count == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("bge rerank", ("bge-reranker-v2-m3",), id="every word counts"),
        pytest.param(
            "LLAMA-2 chat", ("llama-2-13b-chat", "llama-2-70b-chat", "llama-2-7b-chat"), id="any case"
        ),
        pytest.param("tiiuae/falcon-40b", ("falcon-40b", "falcon-40b-instruct"), id="aliases"),
        pytest.param("no such model", (), id="nothing"),
    ],
)
def test_search_finds_by_every_word(text: str, found: tuple[str, ...]) -> None:
    assert tuple(model.name for model in CATALOG.search(text)) == found


def test_an_empty_search_finds_all() -> None:
    assert CATALOG.search("") == CATALOG.models


def test_the_users_own_models_come_first() -> None:
    own = {**MODEL, "name": "falcon-7b", "aliases": ["Ours/Falcon"]}
    extended = CATALOG.extended(models=[MODEL, own])
    assert extended.model("tiny").vocabulary == 1000
    assert extended.model("FALCON-7b").architecture == "llama"
    assert extended.model("ours/falcon") is extended.model("falcon-7b")
    assert extended.model("tiiuae/falcon-7b") is extended.model("falcon-7b")
    assert CATALOG.model("falcon-7b").architecture == "falcon"
    assert len(extended.models) == len(CATALOG.models) + 1


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        pytest.param(
            {"models": [{**MODEL, "vocabulary": "many"}]}, "models[0].vocabulary", "integer", id="type"
        ),
        pytest.param({"models": [MODEL, MODEL]}, "models[1].name", "two models are named tiny", id="twice"),
        pytest.param(
            {"models": [{**MODEL, "metadata": {**MODEL["metadata"], "llama.embedding_length": 0}}]},
            "models[0].metadata",
            "llama.embedding_length is 0",
            id="numbers that make no model",
        ),
        pytest.param(
            {"models": [{**MODEL, "aliases": ["phi-4"]}]},
            "models[0].aliases",
            "a preset is named phi-4",
            id="alias that is a preset's name",
        ),
        pytest.param(
            {"models": [{**MODEL, "features": {"wings": True}}]},
            "models[0].metadata",
            "unknown feature 'wings'",
            id="unknown feature",
        ),
        pytest.param(
            {
                "models": [
                    {**MODEL, "metadata": {"general.architecture": "nonesuch", "nonesuch.context_length": 8}}
                ]
            },
            "models[0].metadata",
            "nonesuch",
            id="unknown architecture",
        ),
        pytest.param(
            {"instance_types": [{**INSTANCE, "gpuCount": 0}]},
            "instanceTypes[0].gpuCount",
            "greater than or equal to 1",
            id="no GPU",
        ),
        pytest.param(
            {"prices": {"nonesuch": {"perHour": 1.0, "asOf": "2026-01-01"}}},
            "prices.nonesuch",
            "no instance type is named 'nonesuch'",
            id="price of an unknown type",
        ),
        pytest.param(
            {"instance_types": [INSTANCE], "prices": {"own-a100": {"perHour": -1, "asOf": "2026-01-01"}}},
            "prices.own-a100.price.perHour",
            "greater than 0",
            id="negative price",
        ),
    ],
)
def test_a_broken_entry_of_the_fleet_is_told_with_its_path(
    given: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(InvalidEntry) as caught:
        CATALOG.extended(**given)
    (problem, *_) = caught.value.problems
    assert problem.field == field
    assert reason in problem.reason


def test_all_problems_of_a_fleet_are_told_at_once() -> None:
    broken = {**MODEL, "vocabulary": -1}
    with pytest.raises(InvalidEntry) as caught:
        CATALOG.extended(models=[broken, broken], instance_types=[{**INSTANCE, "gpuCount": 0}])
    assert len(caught.value.problems) == 3


def test_a_price_of_the_fleet_replaces_the_catalogues() -> None:
    price = {"perHour": 3.5, "currency": "EUR", "asOf": "2026-01-01"}
    extended = CATALOG.extended(instance_types=[INSTANCE], prices={"OWN-A100": price})
    found = extended.instance_type("own-a100").price
    assert found is not None
    assert (found.per_hour, found.currency) == (3.5, "EUR")


def test_the_digest_is_of_the_entries_used_alone() -> None:
    extended = CATALOG.extended(models=[MODEL], instance_types=[INSTANCE])
    model, instance = extended.model("tiny"), extended.instance_type("own-a100")
    assert extended.digest(model, [instance]) == extended.digest(model, [instance])
    assert extended.digest(model, [instance]) != extended.digest(model)
    assert extended.digest(CATALOG.model("phi-4")) == CATALOG.digest(CATALOG.model("phi-4"))


PAGE = Path(__file__).parents[2] / "docs" / "reference" / "presets.md"


def test_the_page_lists_every_preset_and_every_one_that_is_not() -> None:
    page = PAGE.read_text("utf-8")
    assert [name for name in CATALOG.model_names if f"| `{name}` |" not in page] == []
    assert [name for entry in CATALOG.unsupported.values() for name in entry.names if name not in page] == []


def test_the_pages_own_model_can_be_served() -> None:
    example = PAGE.read_text("utf-8").split("```yaml\n")[1].split("```")[0]
    model = CATALOG.extended(**yaml.safe_load(example)).model("TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    assert sum(math.prod(tensor.shape) for tensor in model.layout().tensors) == 1_100_048_384
    assert model.quantizations["Q4_K_M"].location == "example/tinyllama-gguf/tinyllama-1.1b-chat.Q4_K_M.gguf"
