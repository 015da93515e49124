"""Images from the spec to the plan: the projector is counted beside the model, and the pod gets its file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog, fleet, images, plans, projectors, sizing, workspaces
from berth.entries import InvalidEntry
from berth.errors import NoFit
from berth.fleet import Fleet
from berth.quantities import gib
from tests.berth.test_workspace_rules import document

if TYPE_CHECKING:
    from berth.problems import Problem

DIGEST = "a" * 64
GEMMA = "gemma-3-4b-it"
KNOWN = catalog.load().model(GEMMA).projector
assert KNOWN is not None


def spec(mmproj: Any = None, preset: str = GEMMA, **llamacpp: Any) -> dict[str, Any]:
    ours = {**llamacpp, **({} if mmproj is None else {"mmproj": mmproj})}
    resource = llamacpp.pop("resource", {"instanceType": "Standard_NC24ads_A100_v4"})
    ours.pop("resource", None)
    return document(resource=resource, inference={"preset": {"name": preset}, "llamacpp": ours})


def planned(*arguments: Any, at: Fleet | None = None, **llamacpp: Any) -> plans.Plan:
    reading = workspaces.read(spec(*arguments, **llamacpp))
    assert not reading.problems
    assert reading.workspace is not None
    return sizing.plan(reading.workspace, catalog.load(), at)


def projector(plan: plans.Plan) -> plans.Projector:
    assert plan.server is not None
    assert plan.server.mmproj is not None
    return plan.server.mmproj


def memory(plan: plans.Plan) -> plans.Memory:
    assert plan.memory is not None
    return plan.memory


def refused(*arguments: Any, at: Fleet | None = None, **llamacpp: Any) -> Problem:
    reading = workspaces.read(spec(*arguments, **llamacpp))
    if reading.problems:
        (found,) = reading.problems
        return found
    assert reading.workspace is not None
    with pytest.raises(NoFit) as caught:
        sizing.plan(reading.workspace, catalog.load(), at)
    (found,) = caught.value.problems
    return found


def test_nothing_but_the_word_is_needed_where_the_entry_knows_its_projector() -> None:
    plan = planned({})
    assert KNOWN is not None
    assert projector(plan) == plans.Projector(
        file=KNOWN.file,
        size=KNOWN.size,
        sha256=KNOWN.sha256,
        pinned=True,
        image_tokens=258,
        batch_tokens=1024,
    )
    assert plan.server is not None
    argv = plan.server.argv("/models/m.gguf")
    assert argv[argv.index("--mmproj") + 1] == f"/models/{KNOWN.file}"
    assert argv[argv.index("--mtmd-batch-max-tokens") + 1] == "1024"
    assert "--mmproj-offload" in argv
    assert "--image-max-tokens" not in argv


def test_a_plan_for_text_is_the_same_whether_the_entry_knows_a_projector_or_not() -> None:
    known = catalog.load()
    model = known.model(GEMMA)
    without = replace(known, own_models={GEMMA: replace(model, projector=None)})
    reading = workspaces.read(spec())
    assert reading.workspace is not None
    assert sizing.plan(reading.workspace, without) == planned()
    assert planned().catalog_digest != planned({}).catalog_digest
    assert "projector" not in planned().dumps()
    assert "mmproj" not in planned().dumps()


def test_the_projector_stands_on_the_first_gpu_alone() -> None:
    large: dict[str, Any] = {"preset": "gemma-3-27b-it", "resource": {"instanceType": "Standard_NC12s_v3"}}
    one, text = planned({}, **large), planned(**large)
    first, *others = memory(one).gpus
    assert others
    assert first.projector is not None
    assert first.projector > projector(one).size
    assert first.total == memory(text).gpus[0].total + first.projector
    assert [gpu.projector for gpu in others] == [None] * len(others)
    assert others == list(memory(text).gpus[1:])


@pytest.mark.parametrize("parallel", [1, 4], ids=["one slot", "four slots"])
def test_the_host_decodes_as_many_images_at_once_as_there_are_slots(parallel: int) -> None:
    host = memory(planned({}, parallel=parallel)).host
    assert host.projector is not None
    assert host.projector > images.host_bytes(parallel)
    assert host.total == host.weights + host.kv_cache + host.compute + host.projector


def test_context_that_is_as_large_as_fits_leaves_room_for_the_projector() -> None:
    resource = {"instanceType": "Standard_NC4as_T4_v3"}
    seeing = planned({}, contextSize="auto", parallel=16, resource=resource)
    text = planned(contextSize="auto", parallel=16, resource=resource)
    assert seeing.server is not None
    assert text.server is not None
    assert seeing.server.context_size < text.server.context_size
    assert all(gpu.total <= (gpu.capacity or 0) for gpu in memory(seeing).gpus)


@pytest.mark.parametrize(
    ("mmproj", "weights", "pinned", "sha256"),
    [
        pytest.param({"sha256": DIGEST}, None, True, DIGEST, id="a digest of the spec's own goes first"),
        pytest.param(
            {"file": "mine.gguf"}, None, False, None, id="of another file the known digest says nothing"
        ),
        pytest.param(
            {"file": "mmproj-model-f16.gguf"},
            {"hf": "mine/gemma", "file": "m.gguf"},
            False,
            None,
            id="nor of another repository's",
        ),
        pytest.param(
            {},
            {"image": f"r.example.com/m@sha256:{DIGEST}", "file": "m.gguf"},
            True,
            None,
            id="an image's digest pins all that is in it",
        ),
        pytest.param(
            {}, {"image": "r.example.com/m:1", "file": "m.gguf"}, False, None, id="a tag pins nothing"
        ),
        pytest.param(
            {"sha256": DIGEST}, {"pvc": "models", "file": "m.gguf"}, True, DIGEST, id="a file on a volume"
        ),
    ],
)
def test_the_file_is_pinned_as_the_source_of_the_weights_pins_it(
    mmproj: Any, weights: Any, pinned: bool, sha256: str | None
) -> None:
    found = projector(planned(mmproj, **({"weights": weights} if weights else {})))
    assert (found.pinned, found.sha256) == (pinned, sha256)


def test_the_plan_explains_what_images_take_and_whence_they_come() -> None:
    plan = planned({})
    taken = memory(plan).gpus[0].projector
    assert taken is not None
    assert f", projector {gib(taken)}, CUDA" in plan.explanation[0]
    assert plan.explanation[-1] == (
        f"images: mmproj-model-f16.gguf from the same place, {gib(taken)} on the first GPU for up to 258 "
        f"tokens each, {gib(memory(plan).host.projector or 0)} of the node's memory, pinned by digest"
    )
    assert "Unpinned" in planned({"file": "mine.gguf"}).explanation[-1]


@pytest.mark.parametrize(
    ("arguments", "llamacpp", "field", "reason"),
    [
        pytest.param(
            ({}, "llama-2-7b-chat"),
            {},
            "mmproj",
            "the entry of llama-2-7b-chat has no `projector`",
            id="unknown",
        ),
        pytest.param(
            ({}, "bge-m3"), {}, "mmproj", "bge-m3 is no chat model (task embedding)", id="an embedding model"
        ),
        pytest.param(
            ({"maxImageTokens": 100},),
            {},
            "mmproj.maxImageTokens",
            "scales all to one size",
            id="a bound that means nothing",
        ),
        pytest.param(
            ({},),
            {"contextSize": 256},
            "mmproj",
            "an image takes up to 258 tokens, and a slot of 256 has no room left",
            id="no room for an image",
        ),
        pytest.param(
            ({},),
            {"weights": {"hf": "mine/gemma", "file": "m.gguf"}},
            "mmproj",
            "is known of lmstudio-community/gemma-3-4b-it-GGUF, and the weights come from mine/gemma",
            id="weights from elsewhere",
        ),
        pytest.param(
            ({"file": "/mmproj.gguf"},), {}, "mmproj.file", "is no relative path", id="a path from the root"
        ),
        pytest.param(
            ({"maxImageTokens": 0},), {}, "mmproj.maxImageTokens", "has to be at least 1", id="no tokens"
        ),
        pytest.param(({"sha256": "abc"},), {}, "mmproj.sha256", '"abc"', id="half a digest"),
        pytest.param(({"hf": "a/b"},), {}, "mmproj.hf", "unknown field", id="a source of its own"),
    ],
)
def test_what_is_wrong_is_told_alone_at_its_field(
    arguments: Any, llamacpp: Any, field: str, reason: str
) -> None:
    found = refused(*arguments, **llamacpp)
    assert found.field == f"inference.llamacpp.{field}"
    assert reason in found.reason
    assert found.fix


def test_images_keep_a_replica_on_one_node() -> None:
    enforced = Fleet(network_policy="enforced")
    large: dict[str, Any] = {
        "preset": "gemma-3-27b-it",
        "quantization": "F16",
        "weights": {"pvc": "models", "file": "m.gguf"},
        "resource": {"instanceType": "Standard_NC12s_v3", "count": 4},
    }
    assert planned(at=enforced, **large).nodes_per_replica > 1
    found = refused({}, at=enforced, **large)
    assert "4 nodes are not joined for a model that takes images" in found.reason
    assert "networkPolicy" not in found.message


def test_a_node_whose_own_memory_is_too_small_for_so_many_images_is_refused() -> None:
    few: dict[str, Any] = {"preset": "qwen3.5-4b", "parallel": 16}
    found = refused({}, **few, resource={"instanceType": "Standard_NC4as_T4_v3"})
    assert found.rule == "host-memory"
    assert found.needed_bytes is not None
    assert found.available_bytes is not None
    assert found.needed_bytes > found.available_bytes
    assert "of it for images of 16 slots; Standard_NC4as_T4_v3 has 28.0 GiB" in found.reason
    assert planned(**few, resource={"instanceType": "Standard_NC4as_T4_v3"})
    assert planned({"maxImageTokens": 256}, **few, resource={"instanceType": "Standard_NC4as_T4_v3"})


def test_a_node_with_more_memory_is_chosen_for_many_images() -> None:
    aws = Fleet(cloud="aws")

    def memory_of_the_chosen(mmproj: Any) -> int:
        plan = planned(mmproj, preset="qwen3.5-4b", parallel=8, at=aws, resource={"labelSelector": {}})
        return catalog.load().instance_type(plan.nodes.instance_type or "").memory or 0

    assert memory_of_the_chosen({}) > memory_of_the_chosen(None)


def test_no_pod_more_is_started_where_the_node_has_a_gpu_for_it_but_no_memory() -> None:
    three: dict[str, Any] = {"preset": "qwen3.5-4b", "parallel": 30, "replicas": 3, "at": Fleet(cloud="aws")}
    node = {"instanceType": "g4dn.12xlarge", "count": 1}
    assert planned(**three, resource=node).surge
    assert not planned({}, **three, resource=node).surge
    assert planned({"maxImageTokens": 256}, **three, resource=node).surge


def test_more_images_than_any_node_has_memory_for_are_refused() -> None:
    small = Fleet(provisioning="none", instance_types=({"name": "g4dn.xlarge"},))
    found = refused({}, preset="qwen3.5-4b", parallel=16, at=small, resource={"labelSelector": {}})
    assert found.field == "inference.llamacpp.parallel"
    assert "of it for images of 16 slots, and no instance type has as much" in found.reason


def test_a_template_has_no_projector() -> None:
    data = document(
        inference={
            "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}},
            "llamacpp": {"mmproj": {}},
        }
    )
    (found,) = workspaces.read(data).problems
    assert found.reason == "`mmproj` means nothing with `inference.template`"


def test_where_the_weights_are_is_where_the_projector_is() -> None:
    data = spec(weights={"hf": "a/b", "mmproj": "x.gguf"})
    (found,) = workspaces.read(data).problems
    assert found.fix == "move it to `inference.llamacpp.mmproj`"


def own(**changes: Any) -> dict[str, Any]:
    """An entry of a fleet file for a small model with a projector."""
    model = catalog.load().model(GEMMA)
    assert KNOWN is not None
    described = {**KNOWN.to_json(), **changes}
    return {
        "name": "mine",
        "metadata": dict(model.metadata),
        "vocabulary": model.vocabulary,
        "quantizations": ["Q8_0"],
        "defaultQuantization": "Q8_0",
        "projector": {name: value for name, value in described.items() if value is not None},
    }


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        pytest.param(
            {"size": None}, "models[0].projector.size", "the field is missing", id="without its size"
        ),
        pytest.param(
            {"metadata": {"general.architecture": "clip", "clip.projector_type": "telescope"}},
            "models[0].projector.metadata",
            "",
            id="of a kind that nobody knows",
        ),
        pytest.param(
            {"metadata": {**KNOWN.metadata, "clip.vision.projection_dim": 3840}},
            "models[0].projector.metadata",
            "it makes tokens of 3840 numbers, and mine takes 2560: it is another model's",
            id="of another model",
        ),
    ],
)
def test_a_projector_that_cannot_be_counted_is_told_when_the_fleet_file_is_read(
    changes: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(InvalidEntry) as caught:
        catalog.load().extended(models=[own(**changes)])
    (found,) = caught.value.problems
    assert found.field == field
    assert reason in found.reason


def test_a_model_of_ones_own_takes_images_with_the_projector_of_its_entry() -> None:
    found, problems = fleet.read({"models": [own(repository=None, sha256=None)]})
    assert found is not None, problems
    extended = catalog.load().extended(models=found.models)
    reading = workspaces.read(spec({}, "mine", weights={"pvc": "models", "file": "m.gguf"}))
    assert reading.workspace is not None
    plan = sizing.plan(reading.workspace, extended, found)
    assert projector(plan).file == "mmproj-model-f16.gguf"
    assert not projector(plan).pinned


@pytest.mark.parametrize(
    "model", [one for one in catalog.load().models if one.projector], ids=lambda model: model.name
)
def test_every_presets_projector_can_be_counted_and_comes_with_the_weights(model: Any) -> None:
    found = projectors.measure(model.projector)
    assert found.weights >= model.projector.size
    assert 0 < found.tokens < model.default_context
    assert not list(catalog._blind(model, ()))
    assert model.projector.sources
    assert model.projector.repository in {file.repository for file in model.quantizations.values()}


@pytest.mark.parametrize("name", ["gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-27b-it"])
def test_the_size_of_gemmas_projector_is_that_of_its_tensors(name: str) -> None:
    known = catalog.load().model(name).projector
    assert known is not None
    text, width, inner, layers = known.metadata["clip.vision.projection_dim"], 1152, 4304, 27
    matrices = layers * (4 * width * width + 2 * width * inner) + width * text
    vectors = layers * (9 * width + inner) + 14 * 14 * 3 * width + width + 64 * 64 * width + 3 * width
    header = 25_056
    assert known.size == 2 * matrices + 4 * vectors + header


@pytest.mark.parametrize(
    ("name", "width", "inner", "layers", "text", "header"),
    [("qwen3.5-4b", 1024, 4096, 24, 2560, 18_112), ("qwen3.5-9b", 1152, 4304, 27, 4096, 20_096)],
    ids=["4B", "9B"],
)
def test_the_size_of_qwens_projector_is_that_of_its_tensors(
    name: str, width: int, inner: int, layers: int, text: int, header: int
) -> None:
    known = catalog.load().model(name).projector
    assert known is not None
    merged = 4 * width
    matrices = layers * (4 * width * width + 2 * width * inner) + merged * merged + merged * text
    patches = 2 * 16 * 16 * 3 * width
    vectors = layers * (9 * width + inner) + 48 * 48 * width + 3 * width + merged + text
    assert known.size == 2 * (matrices + patches) + 4 * vectors + header
