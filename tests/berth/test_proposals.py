"""What a refusal proposes, written into the spec, is accepted: for any preset, node and settings."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from berth import rules, workspaces
from berth.fleet import Fleet
from tests.random_specs import CATALOG, FLEETS, documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.problems import Problem

PLACES: dict[str, tuple[str, ...]] = {
    "instanceType": ("resource", "instanceType"),
    "count": ("resource", "count"),
    **{
        name: ("inference", "llamacpp", name)
        for name in ("contextSize", "quantization", "replicas", "parallel", "cacheTypeK", "cacheTypeV")
    },
}
PROPOSAL = re.compile(rf"\b({'|'.join(PLACES)}): ([A-Za-z0-9][-\w.]*)")
NETWORK = "networkPolicy: enforced in berth.yaml"
BEFORE_THE_FIT = frozenset({"cache-type", "settings", "projector"})
"""Rules of what keeps a replica from being sized at all."""
OF_THE_FIT = frozenset({"fit", "count", "host-memory", "weights", "projector"})


def errors(document: dict[str, Any], fleet: Fleet) -> list[Problem]:
    found = rules.check(workspaces.read(document), CATALOG, fleet)
    return [problem for problem in found if problem.severity == "error"]


def written(document: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for name, value in values.items():
        place = document
        *way, last = PLACES[name]
        for part in way:
            place = place.setdefault(part, {})
        place[last] = (
            int(value) if value.isdigit() and name not in ("instanceType", "quantization") else value
        )
    return document


def proposals(fix: str) -> Iterator[dict[str, str]]:
    """Each of a fix's alternatives, as the fields that it says to write."""
    for alternative in fix.split(", or "):
        found = {match[1]: match[2].rstrip(".") for match in PROPOSAL.finditer(alternative)}
        if found:
            yield found


def assert_mended(refused: list[Problem], problem: Problem, after: list[Problem]) -> None:
    """The problem is gone and none is new, but for what could not be judged before."""
    known = {(one.rule, one.path) for one in refused if one is not problem}
    later = OF_THE_FIT if problem.rule in BEFORE_THE_FIT else frozenset()
    new = [one for one in after if (one.rule, one.path) not in known and one.rule not in later]
    assert not new, f"{problem.message}\n  brings  {new[0].message}"


@settings(max_examples=60, deadline=None)
@given(document=documents(), fleet=FLEETS)
def test_every_proposal_is_accepted_when_it_is_written(document: dict[str, Any], fleet: Fleet) -> None:
    refused = errors(document, fleet)
    for problem in refused:
        assert problem.fix
        for values in proposals(problem.fix):
            assert_mended(refused, problem, errors(written(document, values), fleet))
        if NETWORK in problem.fix:
            enforced = fleet.model_copy(update={"network_policy": "enforced"})
            assert_mended(refused, problem, errors(document, enforced))


def spec(
    preset: str, instance: str | None = None, count: int | None = None, **llamacpp: Any
) -> dict[str, Any]:
    resource: dict[str, Any] = {"labelSelector": {"matchLabels": {"apps": "test"}}}
    resource |= {"instanceType": instance} if instance else {}
    resource |= {"count": count} if count else {}
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "test"},
        "resource": resource,
        "inference": {"preset": {"name": preset}, "llamacpp": llamacpp},
    }


@pytest.mark.parametrize(
    ("document", "rule", "fix"),
    [
        pytest.param(
            spec(
                "phi-3-mini-4k-instruct", "Standard_NC12s_v3", 2, contextSize=131_072, parallel=16, replicas=2
            ),
            "fit",
            "contextSize: 4352",
            id="a context with which both replicas fit on the two nodes, not one on all their GPUs",
        ),
        pytest.param(
            spec("llama-2-70b", None, 1, replicas=90),
            "fit",
            "write count: 12, or replicas: 8",
            id="the numbers of nodes and of replicas that the best instance type takes",
        ),
        pytest.param(
            spec(
                "kimi-k2-instruct",
                None,
                1,
                replicas=3,
                quantization="F16",
                weights={"pvc": "m", "file": "m.gguf"},
            ),
            "fit",
            "quantization: Q8_0 and replicas: 1",
            id="a smaller quantization with fewer replicas, where it is not enough for all",
        ),
        pytest.param(
            spec("phi-2", cacheTypeK="q8_0"),
            "cache-type",
            "write cacheTypeK: f16",
            id="only a cache type that the model's heads allow",
        ),
        pytest.param(
            spec("phi-2", cacheTypeK="q8_0", cacheTypeV="q8_0"),
            "settings",
            "write cacheTypeK: f16 and cacheTypeV: f16",
            id="the cache type with which the engine starts",
        ),
        pytest.param(
            spec("qwen3-embedding-8b", contextSize=2**24, parallel=256),
            "settings",
            "parallel: 64, or contextSize: 8388352",
            id="slots or a context that the engine can number",
        ),
        pytest.param(
            spec("phi-4", "Standard_NV24"),
            "too-old",
            "instanceType: Standard_NV36ads_A10_v5",
            id="a newer instance type on which the model stands",
        ),
        pytest.param(
            spec("qwen2.5-7b-instruct", quantization="F16"),
            "weights",
            "write quantization: Q8_0, or name yours",
            id="the nearest quantization whose file is published",
        ),
        pytest.param(
            spec("gemma-3-4b-it", contextSize=256, mmproj={}),
            "projector",
            "write contextSize: 512 or more",
            id="a context with room for an image",
        ),
    ],
)
def test_it_is_told_what_would_do(document: dict[str, Any], rule: str, fix: str) -> None:
    (problem,) = errors(document, Fleet())
    assert problem.rule == rule
    assert fix in problem.fix


def test_what_does_not_fit_hides_no_missing_file() -> None:
    refused = errors(spec("falcon-40b", "Standard_NC24s_v3", quantization="F16"), Fleet())
    assert {problem.rule for problem in refused} == {"fit", "weights"}


def test_a_network_is_asked_for_only_where_it_would_help() -> None:
    far = spec("kimi-k2.7-code", None, 1, contextSize=2**24)
    assert NETWORK not in errors(far, Fleet())[0].fix
    node = {"name": "rack", "gpuModel": "NVIDIA T4", "gpuCount": 1}
    racks = Fleet(provisioning="none", instance_types=(node,))
    catalog = CATALOG.extended(instance_types=racks.instance_types)
    reading = workspaces.read(spec("llama-2-70b"))
    (problem,) = rules.check(reading, catalog, racks)
    assert NETWORK in problem.fix
    guarded = racks.model_copy(update={"network_policy": "enforced"})
    assert rules.judge(reading, catalog, guarded).valid
