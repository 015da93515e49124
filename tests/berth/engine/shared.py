"""What the tests of the engine share: layouts of measured models, and the measurements."""

from __future__ import annotations

import csv
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from berth.engine import layouts
from berth.engine.settings import Settings

DATA = Path(__file__).parents[2] / "data"
MODELS: dict[str, dict[str, Any]] = json.loads((DATA / "engine-models.json").read_text())
DEVICES = {"cpu": 0, "rpc1": 1, "rpc2": 2}


def rows(name: str = "engine-memory.csv") -> list[dict[str, str]]:
    """The rows of a measurement."""
    return list(csv.DictReader((DATA / name).read_text().splitlines()))


@lru_cache(maxsize=256)
def layout(name: str, quantization: str = "") -> layouts.Layout:
    """A measured model's layout."""
    model = MODELS[name]
    architecture = model["architecture"]
    metadata = {f"{architecture}.{key}": value for key, value in model["metadata"].items()}
    usual = "MXFP4_MOE" if architecture == "gpt-oss" else "Q4_K_M"
    return layouts.preset(
        {"general.architecture": architecture, **metadata, **model.get("more", {})},
        quantization or usual,
        vocabulary=model["vocabulary"],
        features=model.get("features", {}),
    )


def settings(row: dict[str, str]) -> Settings:
    """The settings of a measured row."""
    key, _, value = row["kv_type"].partition("/")
    return Settings(
        context=int(row["n_ctx"]),
        parallel=int(row["n_parallel"]),
        cache_type_k=key,
        cache_type_v=value or key,
        flash_attention=row["flash_attn"] == "1",
        kv_unified=row["kv_unified"] == "1",
        ubatch=int(row["n_ubatch"]),
        embeddings="pooling_type" in MODELS[row["model"]]["metadata"],
        gpus=DEVICES[row["device"]],
        outputs=int(row["n_outputs_max"]),
    )
