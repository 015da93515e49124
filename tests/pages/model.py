"""Writes a model's file for pages that look at one: a real header, and no weights."""

from __future__ import annotations

import sys
from pathlib import Path

from berth import catalog
from tools import sparse_gguf

if __name__ == "__main__":
    model = catalog.load().model("smollm2-135m-instruct")
    metadata = sparse_gguf.engine_metadata(model.metadata, model.vocabulary) | {"general.file_type": 7}
    sparse_gguf.write(Path(sys.argv[1]), metadata, model.layout("Q8_0").tensors)
