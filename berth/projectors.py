"""The projector of a Workspace: what images take beside the model, and the file that the pod needs."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from berth import fitting, images, plans
from berth.engine.settings import Images, padded
from berth.errors import BerthError, InvalidSettings
from berth.problems import Problem
from berth.weights import pins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from berth.entries import Projector
    from berth.fitting import Demand
    from berth.models import Model
    from berth.plans import Weights
    from berth.problems import Path
    from berth.workspaces import Workspace

PATH: Path = ("inference", "llamacpp", "mmproj")


def measure(
    projector: Projector, max_image_tokens: int | None = None, *, flash_attention: bool = True
) -> Images:
    """Return what taking images adds to a server, the host's part of decoding them apart.

    Raises:
        BerthError: the projector is of a kind that berth does not know to count, or takes no such bound.
    """
    text = plans.canonical(projector.metadata)
    return _measure(text, projector.size, max_image_tokens, flash_attention)


@lru_cache(maxsize=256)
def _measure(metadata: str, size: int, max_image_tokens: int | None, flash_attention: bool) -> Images:
    # few Workspaces take images, and the others need not wait for what knows the projectors
    from berth.engine import projectors

    found = projectors.parse(json.loads(metadata))
    memory = found.memory(size, max_image_tokens, flash_attention=flash_attention)
    return Images(
        memory.weights,
        memory.compute + memory.pool,
        memory.host,
        tokens=found.image_tokens(max_image_tokens),
        at_once=found.whole_image(max_image_tokens),
        request=found.request_bytes(max_image_tokens),
    )


def counted(workspace: Workspace, demand: Demand) -> Demand:
    """Return the demand with what images take, where the Workspace takes any; it has no `problems`."""
    asked, known = workspace.inference.llamacpp.mmproj, demand.model.projector
    if asked is None or known is None:
        return demand
    found = measure(known, asked.get("maxImageTokens"), flash_attention=demand.flash_attention)
    host = found.host + demand.parallel * found.request + images.host_bytes(demand.parallel)
    return fitting.with_images(demand, found._replace(host=host))


def problems(workspace: Workspace, model: Model, context_size: int) -> Iterator[Problem]:
    """Yield why images cannot be taken, the first reason alone."""
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
        found = measure(model.projector, most)
    except InvalidSettings as error:
        yield Problem((*PATH, "maxImageTokens"), most, str(error), "remove it", rule="projector")
    except BerthError as error:
        yield Problem(PATH, None, str(error), "remove it: images are not served with it", rule="projector")
    else:
        if found.tokens >= context_size:
            reason = (
                f"an image takes up to {found.tokens} tokens, and a slot of {context_size} has no room left"
            )
            least = padded(found.tokens + 1)
            fix = f"write contextSize: {least} or more, or a smaller mmproj.maxImageTokens"
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


def of(workspace: Workspace, demand: Demand, source: Weights) -> plans.Projector | None:
    """Return the file that the pod needs, pinned as the source of the weights pins it."""
    asked, known = workspace.inference.llamacpp.mmproj, demand.model.projector
    if asked is None or known is None or demand.images is None:
        return None
    from berth.engine.projectors import BATCH_TOKENS

    file = asked.get("file", known.file)
    published = known.sha256 if file == known.file and source.hf == known.repository else None
    sha256 = asked.get("sha256", published)
    return plans.Projector(
        file=file,
        size=known.size,
        sha256=sha256,
        pinned=pins(sha256, file) or (source.image is not None and "@sha256:" in source.image),
        image_tokens=demand.images.tokens,
        max_image_tokens=asked.get("maxImageTokens"),
        batch_tokens=BATCH_TOKENS,
    )
