"""Writes a file for pages that look at one: a model's real header and no weights, or a small projector."""

from __future__ import annotations

import sys
from pathlib import Path

from berth import catalog
from tests.serving import tiny_projectors
from tools import sparse_gguf

if __name__ == "__main__":
    *options, name = sys.argv[1:]
    if options == ["--projector"]:
        tiny_projectors.write(Path(name), "gemma3")
    else:
        model = catalog.load().model("smollm2-135m-instruct")
        metadata = sparse_gguf.engine_metadata(model.metadata, model.vocabulary) | {"general.file_type": 7}
        sparse_gguf.write(Path(name), metadata, model.layout("Q8_0").tensors)
