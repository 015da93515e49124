"""How a pod comes by its LoRA adapters: each is a file of an image, in its own folder below `/adapters`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from berth.plans import ADAPTERS_FOLDER
from berth.quantities import MIB, format_bytes
from generator.charts import containers
from generator.charts import weights as supplies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from berth.plans import Adapter
    from generator.charts.frames import Frame, Object

VOLUME = "adapters"
COPY_FOLDER = "/berth-adapters"
"""Where the copying containers mount the volume: an image may hold files below `/adapters` itself."""


@dataclass(frozen=True)
class Supply:
    """What a pod needs for its adapters."""

    volumes: list[Object] = field(default_factory=list)
    mounts: list[Object] = field(default_factory=list)
    init_containers: list[Object] = field(default_factory=list)


def supply(frame: Frame, adapters: Sequence[Adapter], weights: supplies.Supply) -> Supply:
    """Return volumes, mounts and init containers beside those of the model's own weights."""
    if not adapters:
        return Supply()
    if frame.fleet.weights.image_volumes:
        return Supply(
            [
                {"name": _name(index), "image": {"reference": adapter.image, "pullPolicy": "IfNotPresent"}}
                for index, adapter in enumerate(adapters)
            ],
            [
                {"name": _name(index), "mountPath": f"{ADAPTERS_FOLDER}/{adapter.name}", "readOnly": True}
                for index, adapter in enumerate(adapters)
            ],
        )
    room = -(-sum(adapter.size for adapter in adapters) * 105 // 100 // MIB) + 16
    volume = {"name": VOLUME, "emptyDir": {"sizeLimit": format_bytes(room * MIB)}}
    mount = {"name": VOLUME, "mountPath": ADAPTERS_FOLDER, "readOnly": True}
    copies = [_copy(_name(index), adapter) for index, adapter in enumerate(adapters)]
    if any(one["name"] == supplies.TOOLS_VOLUME for one in weights.init_containers):
        return Supply([volume], [mount], copies)
    tools_volume, tools = supplies.copy_program(frame)
    return Supply([tools_volume, volume], [mount], [tools, *copies])


def arguments(adapters: Sequence[Adapter]) -> list[str]:
    """Return what the front has to know to check each file before it is served."""
    return [
        part
        for adapter in adapters
        for part in (
            "--adapter",
            f"{adapter.path}:{adapter.size}" + (f":{adapter.sha256}" if adapter.sha256 else ""),
        )
    ]


def pull_secrets(adapters: Sequence[Adapter]) -> list[str]:
    """Return the Secrets with which the images are pulled."""
    return [name for adapter in adapters for name in adapter.pull_secrets]


def _copy(name: str, adapter: Adapter) -> Object:
    folder = (PurePosixPath(COPY_FOLDER) / adapter.name / adapter.file).parent
    return containers.bare(
        name,
        adapter.image,
        [f"{supplies.TOOLS_FOLDER}/copy", "--to", str(folder), f"/{adapter.file}"],
        mounts=[
            {"name": supplies.TOOLS_VOLUME, "mountPath": supplies.TOOLS_FOLDER, "readOnly": True},
            {"name": VOLUME, "mountPath": COPY_FOLDER},
        ],
    )


def _name(index: int) -> str:
    return f"adapter-{index}"
