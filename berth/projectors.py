"""The projector of a Workspace: what images take beside the model, and the file that the pod needs."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from berth import plans
from berth.engine.settings import Images
from berth.errors import BerthError
from berth.problems import Problem
from berth.weights import pins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.entries import Projector
    from berth.models import Model
    from berth.plans import Weights
    from berth.problems import Path
    from berth.workspaces import Workspace

HEADER_ALLOWANCE = 2**20
"""Bytes of a file beside its tensors: names and numbers of a few hundred."""
PATH: Path = ("inference", "llamacpp", "mmproj")


def measure(projector: Projector, max_image_tokens: int | None, parallel: int) -> Images:
    """Return what taking images adds to a server; the engine encodes one image at a time.

    Raises:
        BerthError: the projector is of a kind that berth does not know to count.
    """
    from berth import images

    weights, compute, host, tokens = _measure(plans.canonical(projector.metadata), max_image_tokens)
    return Images(weights, compute, host + images.host_bytes(parallel), tokens)


@lru_cache(maxsize=256)
def _measure(metadata: str, max_image_tokens: int | None) -> tuple[int, int, int, int]:
    # few Workspaces take images, and the others need not wait for what knows the projectors
    from berth.engine import projectors as engine

    found = engine.parse(json.loads(metadata))
    memory = found.memory(max_image_tokens)
    return memory.weights, memory.compute, memory.host, found.image_tokens(max_image_tokens)


def measured(workspace: Workspace, model: Model, parallel: int) -> Images | None:
    """Return what a Workspace's images take; None where it takes none."""
    asked = workspace.inference.llamacpp.mmproj
    if asked is None or model.projector is None:
        return None
    return measure(model.projector, asked.get("maxImageTokens"), parallel)


def problems(workspace: Workspace, model: Model, context_size: int) -> Iterator[Problem]:
    """Yield why images cannot be taken; each of the checks needs that the ones before found nothing."""
    asked = workspace.inference.llamacpp.mmproj
    if asked is None:
        return
    if model.task != "chat":
        reason = f"{model.name} is no chat model (task {model.task}), and images come with chats alone"
        yield Problem(PATH, None, reason, "remove it", rule="projector")
        return
    if model.projector is None:
        reason = f"nothing says what images take: the entry of {model.name} has no `projector`"
        fix = (
            "remove it, or give the model an entry with one under `models` in berth.yaml; "
            "`berth explain mmproj.gguf` prints it"
        )
        yield Problem(PATH, None, reason, fix, rule="projector")
        return
    most = asked.get("maxImageTokens")
    try:
        found = measure(model.projector, most, 1)
    except BerthError as error:
        yield Problem(PATH, None, str(error), "remove it: images are not served with it", rule="projector")
        return
    if most is not None and found.tokens > most:
        reason = f"every image of this projector becomes {found.tokens} tokens, whatever its size"
        yield Problem((*PATH, "maxImageTokens"), most, reason, "remove it", rule="projector")
    elif found.tokens >= context_size:
        reason = (
            f"an image takes up to {found.tokens} tokens, and a slot of {context_size} has no room for more"
        )
        fix = f"write a contextSize of more than {found.tokens}, or a smaller mmproj.maxImageTokens"
        yield Problem(PATH, None, reason, fix, rule="projector")


def elsewhere(workspace: Workspace, model: Model, source: Weights) -> Iterator[Problem]:
    """Yield why the projector's file cannot be had from the source of the weights."""
    asked, known = workspace.inference.llamacpp.mmproj, model.projector
    if asked is None or known is None or "file" in asked or source.hf is None:
        return
    if known.repository is not None and known.repository != source.hf:
        reason = f"{known.file} is known of {known.repository}, and the weights come from {source.hf}"
        fix = "write in `file` what the projector is called there"
        yield Problem(PATH, None, reason, fix, rule="projector")


def of(workspace: Workspace, model: Model, found: Images | None, source: Weights) -> plans.Projector | None:
    """Return the file that the pod needs, pinned as the source of the weights pins it."""
    asked, known = workspace.inference.llamacpp.mmproj, model.projector
    if asked is None or known is None or found is None:
        return None
    file = asked.get("file", known.file)
    same = file == known.file and source.hf is not None
    sha256 = asked.get("sha256") or (known.sha256 if same else None)
    return plans.Projector(
        file=file,
        size=known.size or found.weights + HEADER_ALLOWANCE,
        sha256=sha256,
        pinned=pins(sha256, file) or (source.image is not None and "@sha256:" in source.image),
        image_tokens=found.tokens,
        max_image_tokens=asked.get("maxImageTokens"),
    )
