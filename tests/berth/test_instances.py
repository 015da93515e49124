"""Instance types: every one is sourced and consistent, and what users add is read or refused clearly."""

from importlib import resources
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from berth import catalog, instances
from berth.errors import UnknownInstanceType
from berth.instances import InstanceType
from berth.quantities import GIB, MIB

TYPES = catalog.load().instance_types
ENTRY = {"name": "big-box", "gpuModel": "NVIDIA L4", "gpuCount": 2}

BROCHURE = {
    "NVIDIA T4": 16, "NVIDIA V100 16GB": 16, "NVIDIA V100 32GB": 32, "NVIDIA A10": 24, "NVIDIA A10G": 24,
    "NVIDIA L4": 24, "NVIDIA L40S": 48, "NVIDIA A100 40GB": 40, "NVIDIA A100 80GB": 80,
    "NVIDIA H100 80GB": 80, "NVIDIA H100 NVL 94GB": 94, "NVIDIA H200": 141, "NVIDIA B200": 180,
    "NVIDIA M60": 8, "NVIDIA K80": 12, "NVIDIA RTX PRO 6000 Blackwell Server Edition": 96,
    "NVIDIA P100 16GB": 16, "NVIDIA P40": 24,
}  # fmt: skip


def read(**changes: Any) -> InstanceType:
    """Read one entry of a fleet file; None takes a key away."""
    entry = {key: value for key, value in {**ENTRY, **changes}.items() if value is not None}
    (instance,) = instances.parse({"instanceTypes": [entry]})
    return instance


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_entry_is_sourced_and_agrees_with_its_gpu(name: str) -> None:
    instance = TYPES[name]
    model = instances.gpu_models()[instance.gpu_model]
    assert instance.source
    assert instance.as_of
    assert instance.compute_capability == model.compute_capability
    if instance.gpu_fraction is None:
        assert instance.gpu_memory == model.memory
    else:
        part, whole = map(int, instance.gpu_fraction.split("/"))
        assert instance.gpu_count == 1
        assert instance.gpu_memory < model.memory * part / whole
        assert not instance.automatic
    if instance.price is not None:
        assert instance.price.source
        assert instance.price.region


def test_no_name_stands_twice() -> None:
    names = []
    for file in ("azure.yaml", "aws.yaml", "gcp.yaml"):
        text = (resources.files("presets") / "gpus" / file).read_text("utf-8")
        names += [instance.name.casefold() for instance in instances.parse(yaml.safe_load(text))]
    assert len(names) == len(set(names)) == len(TYPES)


@pytest.mark.parametrize("name", sorted(instances.gpu_models()))
def test_a_gpu_offers_less_than_its_brochure_says(name: str) -> None:
    """And not absurdly less: the driver and ECC keep back a tenth at the very most."""
    model = instances.gpu_models()[name]
    brochure = BROCHURE[name] * GIB
    assert 0.88 * brochure < model.memory < brochure
    assert model.memory % MIB == 0
    assert not model.estimated or model.note


def test_where_every_size_of_a_cloud_may_be_chosen_all_have_a_price_or_none() -> None:
    """Else one size without a price would turn the order by price off for its whole cloud."""
    for cloud in ("azure", "aws", "gcp"):
        choosable = [
            one for one in TYPES.values() if one.cloud == cloud and one.automatic and not one.retired
        ]
        assert choosable
        assert len({one.price is None for one in choosable}) == 1


@pytest.mark.parametrize(
    ("name", "gpus", "brochure_each"),
    [
        pytest.param("Standard_ND96amsr_A100_v4", 8, 80, id="KAITO had 80 GB for all eight GPUs together"),
        pytest.param(
            "Standard_NC12s_v3", 2, 16, id="KAITO compared the sum of two GPUs with the need of one"
        ),
        pytest.param("Standard_NC96ads_A100_v4", 4, 80, id="KAITO multiplied the sum by the count once more"),
        pytest.param("Standard_NV72ads_A10_v5", 2, 24, id="memory is that of one GPU"),
        pytest.param("g5.48xlarge", 8, 24, id="on AWS too"),
        pytest.param("p4de.24xlarge", 8, 80, id="the larger A100"),
        pytest.param("a2-megagpu-16g", 16, 40, id="the largest count"),
    ],
)
def test_the_mistakes_of_the_original_are_not_copied(name: str, gpus: int, brochure_each: int) -> None:
    instance = TYPES[name]
    assert instance.gpu_count == gpus
    assert BROCHURE[instance.gpu_model] == brochure_each
    assert 0.9 * brochure_each * GIB < instance.gpu_memory < brochure_each * GIB


@pytest.mark.parametrize("word", ["V620", "V520", "V710", "MI300", "trn1", "inf2", "g4ad", "g5g"])
def test_what_is_no_nvidia_gpu_on_x86_is_not_listed(word: str) -> None:
    assert not [name for name in TYPES if word.casefold() in name.casefold()]


@pytest.mark.parametrize(
    "spelling", ["standard_nc24ads_a100_v4", "STANDARD_NC24ADS_A100_V4", "Standard_NC24ads_A100_v4"]
)
def test_a_name_is_found_in_any_case(spelling: str) -> None:
    assert catalog.load().instance_type(spelling).name == "Standard_NC24ads_A100_v4"


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        pytest.param("Standard_NC12s_v33", "Standard_NC12s_v3", id="a letter too many"),
        pytest.param("standard_nc24ads_a100", "Standard_NC24ads_A100_v4", id="cut short, in lower case"),
        pytest.param("g5.12xl", "g5.12xlarge", id="abbreviated"),
        pytest.param("a2-highgpu-1", "a2-highgpu-1g", id="without its unit"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UnknownInstanceType) as caught:
        catalog.load().instance_type(wrong)
    assert nearest in str(caught.value)


def test_a_known_gpu_brings_its_memory_and_capability() -> None:
    instance = read()
    assert instance.gpu_memory == instances.gpu_models()["NVIDIA L4"].memory
    assert instance.compute_capability == 8.9
    assert instance.cloud == "custom"


def test_an_unknown_gpu_takes_figures_of_its_own() -> None:
    instance = read(gpuModel="NVIDIA RTX 4090", gpuMemory="23.6Gi", computeCapability=8.9, memory="128Gi")
    assert instance.gpu_memory == int(23.6 * GIB)
    assert instance.memory == 128 * GIB


def test_an_entry_of_a_fleet_file_may_carry_a_price() -> None:
    price = {"perHour": 1.25, "currency": "EUR", "region": "home", "asOf": "2026-01-31"}
    found = read(price=price).price
    assert found is not None
    assert (found.per_hour, found.currency, found.as_of) == (1.25, "EUR", "2026-01-31")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        pytest.param(
            {"gpuModel": "NVIDIA RTX 4090"}, "gpuMemory", "no gpuMemory of", id="unknown GPU, no memory"
        ),
        pytest.param(
            {"gpuModel": "NVIDIA A100"}, "gpuMemory", "A100 80GB", id="one of two GPUs of that name"
        ),
        pytest.param(
            {"gpuModel": "X", "gpuMemory": "8Gi"},
            "computeCapability",
            "no computeCapability",
            id="no capability",
        ),
        pytest.param({"name": None}, "name", "required", id="no name"),
        pytest.param({"name": "two words"}, "name", "at most 63", id="a name that is no label value"),
        pytest.param({"gpuCount": 0}, "gpuCount", "greater", id="no GPU"),
        pytest.param({"gpuCount": 10**12}, "gpuCount", "less", id="absurdly many GPUs"),
        pytest.param({"gpuMemory": "24 GB"}, "gpuMemory", "no Kubernetes quantity", id="no quantity"),
        pytest.param({"gpuMemory": "-1Gi"}, "gpuMemory", "greater", id="negative memory"),
        pytest.param({"memory": "500m"}, "memory", "greater", id="half a byte"),
        pytest.param({"gpus": 2}, "gpus", "not permitted", id="unknown key"),
        pytest.param({"source": "see the wiki"}, "source", "https://", id="a source that is no address"),
        pytest.param(
            {"price": {"perHour": -1, "asOf": "2026-01-31"}}, "perHour", "greater", id="negative price"
        ),
        pytest.param({"price": {"perHour": float("nan"), "asOf": "2026-01-31"}}, "perHour", "", id="NaN"),
        pytest.param({"price": {"perHour": 1, "asOf": "last week"}}, "asOf", "2026-01-31", id="no date"),
        pytest.param({"price": {"perHour": 1}}, "asOf", "required", id="a price without its date"),
    ],
)
def test_a_wrong_entry_names_its_field(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read(**changes)
    error = caught.value.errors()[0]
    assert error["loc"][-1] == field
    assert reason in error["msg"]


@pytest.mark.parametrize("document", ["text", [1], None, 7], ids=["text", "list", "null", "number"])
def test_an_entry_that_is_no_mapping_is_refused(document: object) -> None:
    with pytest.raises(ValidationError):
        instances.parse({"instanceTypes": [document]})


def test_the_digest_follows_facts_and_not_sources() -> None:
    instance = TYPES["Standard_NC24ads_A100_v4"]
    moved = instance.model_copy(update={"source": "https://example.com/other"})
    grown = instance.model_copy(update={"gpu_memory": instance.gpu_memory + MIB})
    assert InstanceType(**moved.model_dump()).digest == instance.digest
    assert InstanceType(**grown.model_dump()).digest != instance.digest
