"""Where weights come from, and when their content counts as fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from berth import catalog as catalogs
from berth import sizing, workspaces
from berth.fleet import Fleet, FleetWeights

if TYPE_CHECKING:
    from berth.plans import Weights

CATALOG = catalogs.load()
HASH = "0" * 64


def weights(fleet: Fleet | None = None, **source: Any) -> Weights:
    inference: dict[str, Any] = {"preset": {"name": "falcon-7b"}}
    if source:
        inference["llamacpp"] = {"weights": source}
    document = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "test"},
        "resource": {"instanceType": "Standard_NC12s_v3", "labelSelector": {"matchLabels": {"a": "b"}}},
        "inference": inference,
    }
    made = sizing.plan(workspaces.parse(document), CATALOG, fleet).weights
    assert made is not None
    return made


def test_the_preset_s_place_is_taken_where_nothing_else_is_named() -> None:
    made = weights()
    assert (made.hf, made.image, made.pvc) == (
        CATALOG.model("falcon-7b").quantizations["Q4_K_M"].repository,
        None,
        None,
    )


def test_the_fleet_s_registry_goes_before_the_preset_s_place() -> None:
    own = Fleet(weights=FleetWeights(source="image", registry="registry.example.com/models"))
    assert weights(own).image == "registry.example.com/models/falcon-7b:q4_k_m"


def test_the_workspace_s_own_source_goes_before_the_fleet_s() -> None:
    own = Fleet(weights=FleetWeights(source="image", registry="registry.example.com/models"))
    assert weights(own, pvc="claim", file="m.gguf").pvc == "claim"


@pytest.mark.parametrize(
    ("source", "pinned"),
    [
        pytest.param(
            {"image": f"r.example.com/m@sha256:{HASH}", "file": "m.gguf"}, True, id="an image by digest"
        ),
        pytest.param({"image": "r.example.com/m:1", "file": "m.gguf"}, False, id="an image by tag"),
        pytest.param({"hf": "org/m", "file": "m.gguf", "sha256": HASH}, True, id="a file with its hash"),
        pytest.param({"hf": "org/m", "file": "m.gguf"}, False, id="a file without"),
        pytest.param(
            {"hf": "org/m", "file": "m-00001-of-00002.gguf", "sha256": HASH},
            False,
            id="one part of a split model",
        ),
        pytest.param(
            {"pvc": "claim", "file": "m.gguf", "sha256": HASH}, True, id="a volume's file with its hash"
        ),
        pytest.param({"pvc": "claim", "file": "m.gguf"}, False, id="a volume's file without"),
    ],
)
def test_only_a_digest_of_all_the_content_pins(source: dict[str, Any], pinned: bool) -> None:
    assert weights(**source).pinned is pinned
