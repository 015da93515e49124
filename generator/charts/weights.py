"""How a pod comes by its GGUF file: volumes, mounts and the init containers that fill them.

Every source ends as files below `/models`, so that the engine's command line is the same for all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from berth.quantities import GIB, format_bytes
from generator.charts import containers

if TYPE_CHECKING:
    from berth.plans import Weights
    from generator.charts.frames import Frame, Object

FOLDER = "/models"
VOLUME = "weights"
TOOLS_VOLUME, TOOLS_FOLDER = "tools", "/berth"
COPY_FOLDER = "/berth-weights"
"""Where the copying container mounts the volume: the image may hold its files below `/models` itself."""
TOKEN = "HF_TOKEN"
"""The key in the token's Secret and the variable in the container, as in the original."""

_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$")


@dataclass(frozen=True)
class Supply:
    """What a pod needs for one source of weights."""

    volumes: list[Object]
    mount: Object
    init_containers: list[Object] = field(default_factory=list)


def path(weights: Weights) -> str:
    """Return the first GGUF file's path in the pod; it is the same for every source."""
    return str(PurePosixPath(FOLDER) / weights.file.lstrip("/"))


def files(weights: Weights) -> list[str]:
    """Return every file of the model; the parts of a split one carry number and count in their names.

    >>> from berth.plans import Weights
    >>> files(Weights(image="i", file="m-00001-of-00002.gguf", size=1))
    ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    """
    match = _SPLIT.match(weights.file)
    if match is None:
        return [weights.file]
    parts = int(match["parts"])
    return [f"{match['stem']}-{part:05}-of-{parts:05}.gguf" for part in range(1, parts + 1)]


def supply(frame: Frame, weights: Weights) -> Supply:
    """Return volumes, mount and init containers for the plan's source of weights."""
    if weights.image is not None:
        if frame.fleet.weights.image_volumes:
            return _image_volume(weights.image)
        return _image_copy(frame, weights, weights.image)
    if weights.pvc is not None:
        return _volume(frame, weights, weights.pvc)
    return _download(frame, weights)


def _image_volume(image: str) -> Supply:
    """The runtime mounts the image itself: nothing is copied, and the digest is the runtime's to verify."""
    volume = {"name": VOLUME, "image": {"reference": image, "pullPolicy": "IfNotPresent"}}
    return Supply([volume], _mount(read_only=True))


def _volume(frame: Frame, weights: Weights, claim: str) -> Supply:
    """A file that is there; where the volume may be written to, one pod hashes it and notes that for all."""
    if not weights.stamp or weights.sha256 is None:
        source = {"claimName": claim, "readOnly": True}
        return Supply([{"name": VOLUME, "persistentVolumeClaim": source}], _mount(read_only=True))
    verify = containers.berth(
        frame,
        "weights",
        ["python", "-m", "serving", "verify", "--model", path(weights), "--sha256", weights.sha256],
        mounts=[_mount(read_only=False)],
    )
    volume = {"name": VOLUME, "persistentVolumeClaim": {"claimName": claim}}
    return Supply([volume], _mount(read_only=True), [verify])


def _image_copy(frame: Frame, weights: Weights, image: str) -> Supply:
    """A container of the weights' own image copies them; that image needs no program of its own.

    So a first container leaves a static program in a shared volume, and the second one runs it.
    """
    tools_volume, tools = copy_program(frame)
    sources = [str(PurePosixPath("/") / name.lstrip("/")) for name in files(weights)]
    folder = str((PurePosixPath(COPY_FOLDER) / weights.file.lstrip("/")).parent)
    copy = containers.bare(
        "weights",
        image,
        [f"{TOOLS_FOLDER}/copy", "--to", folder, *sources],
        mounts=[
            {"name": TOOLS_VOLUME, "mountPath": TOOLS_FOLDER, "readOnly": True},
            {"name": VOLUME, "mountPath": COPY_FOLDER},
        ],
    )
    return Supply([tools_volume, _scratch(weights)], _mount(read_only=True), [tools, copy])


def copy_program(frame: Frame) -> tuple[Object, Object]:
    """Return a volume, and the container that leaves the copying program in it."""
    tools = containers.berth(
        frame,
        TOOLS_VOLUME,
        ["python", "-m", "serving", "tools", "--to", f"{TOOLS_FOLDER}/copy"],
        mounts=[{"name": TOOLS_VOLUME, "mountPath": TOOLS_FOLDER}],
    )
    return {"name": TOOLS_VOLUME, "emptyDir": {"sizeLimit": "64Mi"}}, tools


def _download(frame: Frame, weights: Weights) -> Supply:
    """Our own image downloads the files at a fixed revision, and checks the sha256 where one is known."""
    command = ["python", "-m", "serving", "fetch", "--repository", weights.hf or ""]
    if weights.revision is not None:
        command += ["--revision", weights.revision]
    for name in files(weights):
        command += ["--file", name]
    if weights.sha256 is not None:
        command += ["--sha256", weights.sha256]
    command += ["--size", str(weights.size), "--to", FOLDER]
    environment: list[Object] = []
    if weights.token_secret is not None:
        reference = {"name": weights.token_secret, "key": TOKEN, "optional": False}
        environment.append({"name": TOKEN, "valueFrom": {"secretKeyRef": reference}})
        # So that a refusal of the hub can name the Secret to mend.
        environment.append({"name": "BERTH_TOKEN_SECRET", "value": weights.token_secret})
    cache = frame.fleet.weights.cache
    volume, place = _scratch(weights), {}
    if cache is not None:
        volume = {"name": VOLUME, "persistentVolumeClaim": {"claimName": cache.pvc}}
        place = {"subPath": _cache_folder(weights)}
    fetch = containers.berth(
        frame,
        "weights",
        command,
        environment=environment,
        mounts=[{**_mount(read_only=False), **place}],
    )
    return Supply([volume], {**_mount(read_only=True), **place}, [fetch])


def _cache_folder(weights: Weights) -> str:
    """One folder for each repository and revision, so that models never mix in a shared volume."""
    repository = (weights.hf or "").replace("/", "--")
    return f"{repository}@{weights.revision}" if weights.revision else repository


def _scratch(weights: Weights) -> Object:
    """Room for the files and, while they are hashed and renamed, some more."""
    room = -(-weights.size * 105 // 100 // GIB) + 1
    return {"name": VOLUME, "emptyDir": {"sizeLimit": format_bytes(room * GIB)}}


def _mount(*, read_only: bool) -> Object:
    # The API server does not keep a `false` that is the default, so none is written.
    return {"name": VOLUME, "mountPath": FOLDER, **({"readOnly": True} if read_only else {})}
