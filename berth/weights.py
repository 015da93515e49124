"""Where a plan's GGUF file comes from: the Workspace's own source, the fleet's, then the preset's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from berth.plans import Weights

_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")

if TYPE_CHECKING:
    from berth.fitting import Demand
    from berth.fleet import Fleet
    from berth.models import Model
    from berth.workspaces import WeightsSource, Workspace


def of(workspace: Workspace, demand: Demand, fleet: Fleet) -> Weights | None:
    """Return the source of a Workspace's weights, None where neither it, the fleet nor the preset names one.

    An image counts as pinned by its digest, a hub file by its sha256; anything else is not pinned, and the
    plan says so instead of calling it verified.
    """
    own = workspace.inference.llamacpp.weights
    preset = workspace.inference.preset
    size = demand.layout.size
    published = demand.model.quantizations[demand.quantization]
    pull_secrets = tuple(preset.pull_secrets) if preset else ()
    token = preset.model_access_secret if preset else None
    if own is not None:
        return _own(own, published.file, size, pull_secrets, token)
    if fleet.weights.source == "image" and fleet.weights.registry:
        image = f"{fleet.weights.registry.rstrip('/')}/{demand.model.name}:{demand.quantization.lower()}"
        return Weights(image=image, pull_secrets=pull_secrets, file=published.file, size=size)
    if published.repository is None:
        return None
    return Weights(
        hf=published.repository,
        revision=published.revision,
        token_secret=token,
        pull_secrets=pull_secrets,
        file=published.file,
        size=published.size or size,
        sha256=published.sha256,
        pinned=pins(published.sha256, published.file),
    )


def known(workspace: Workspace, model: Model, fleet: Fleet) -> list[str]:
    """Return the quantizations whose file has a source."""
    anywhere = workspace.inference.llamacpp.weights is not None or (
        fleet.weights.source == "image" and fleet.weights.registry
    )
    return [name for name, file in model.quantizations.items() if anywhere or file.repository is not None]


def _own(
    own: WeightsSource, published_file: str, size: int, pull_secrets: tuple[str, ...], token: str | None
) -> Weights:
    file = own.file or published_file
    if own.image is not None:
        secrets = tuple(own.pull_secrets) or pull_secrets
        pinned = "@sha256:" in own.image
        return Weights(image=own.image, pull_secrets=secrets, file=file, size=size, pinned=pinned)
    if own.pvc is not None:
        pinned = pins(own.sha256, file)
        return Weights(
            pvc=own.pvc, pull_secrets=pull_secrets, file=file, size=size, sha256=own.sha256, pinned=pinned,
            stamp=own.stamp or None,
        )  # fmt: skip
    return Weights(
        hf=own.hf,
        revision=own.revision,
        token_secret=own.token_secret or token,
        pull_secrets=pull_secrets,
        file=file,
        size=size,
        sha256=own.sha256,
        pinned=pins(own.sha256, file),
    )


def pins(sha256: str | None, file: str) -> bool:
    """Return whether a hash fixes the content; of a split model it would leave the other parts open."""
    return sha256 is not None and _PART.search(file) is None
