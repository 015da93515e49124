"""Workspaces at random, of real presets and instance types: each can be read, and many cannot run."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from berth import catalog as catalogs
from berth.fleet import Fleet
from berth.spec.llamacpp import CACHE_TYPES

CATALOG = catalogs.load()
FLEETS = st.builds(
    Fleet,
    cloud=st.sampled_from(("azure", "aws", "gcp")),
    network_policy=st.sampled_from(("none", "enforced")),
)


@st.composite
def documents(draw: st.DrawFn, name: str = "test") -> dict[str, Any]:
    """A Workspace in which any field may be absent that may be."""
    model = CATALOG.model(draw(st.sampled_from(CATALOG.model_names)))
    resource: dict[str, Any] = {"labelSelector": {"matchLabels": {"apps": "test"}}}
    llamacpp: dict[str, Any] = {}
    contexts = st.sampled_from(("auto", 256, 300, 8_192, 131_072, 2**20, 2**24, model.trained_context))
    cache = draw(st.sampled_from(CACHE_TYPES))
    for place, field, values in (
        (resource, "instanceType", st.sampled_from(sorted(CATALOG.instance_types))),
        (resource, "count", st.sampled_from((1, 2, 3, 8, 40))),
        (llamacpp, "quantization", st.sampled_from(sorted(model.quantizations))),
        (llamacpp, "contextSize", contexts),
        (llamacpp, "parallel", st.sampled_from((1, 2, 3, 5, 16, 64, 256))),
        (llamacpp, "replicas", st.sampled_from((1, 2, 3, 9, 100))),
        (llamacpp, "weights", st.just({"pvc": "models", "file": "model.gguf"})),
        (llamacpp, "cacheTypeK", st.just(cache)),
        (llamacpp, "cacheTypeV", st.just(cache)),
        *([(llamacpp, "mmproj", st.just({}))] if model.projector else []),
    ):
        if draw(st.booleans()):
            place[field] = draw(values)
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": resource,
        "inference": {"preset": {"name": model.name}, "llamacpp": llamacpp},
    }
