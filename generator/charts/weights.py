"""How a pod comes by its GGUF file: volumes, mounts and the init containers that fill them.

Every source ends as files below `/models`, so that the engine's command line is the same for all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from berth.plans import WEIGHTS_FOLDER
from berth.quantities import GIB, format_bytes
from generator.charts import containers

if TYPE_CHECKING:
    from berth.plans import Projector, Weights
    from generator.charts.frames import Frame, Object

FOLDER = WEIGHTS_FOLDER
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


def supply(frame: Frame, weights: Weights, projector: Projector | None = None) -> Supply:
    """Return volumes, mount and init containers for the plan's source of weights, and of the projector."""
    if weights.image is not None:
        if frame.fleet.weights.image_volumes:
            return _image_volume(weights.image)
        return _image_copy(frame, weights, weights.image, projector)
    if weights.pvc is not None:
        return _volume(frame, weights, weights.pvc, projector)
    return _download(frame, weights, projector)


def _image_volume(image: str) -> Supply:
    """The runtime mounts the image itself: nothing is copied, and the digest is the runtime's to verify."""
    volume = {"name": VOLUME, "image": {"reference": image, "pullPolicy": "IfNotPresent"}}
    return Supply([volume], _mount(read_only=True))


def _volume(frame: Frame, weights: Weights, claim: str, projector: Projector | None) -> Supply:
    """A file that is there; where the volume may be written to, one pod hashes it and notes that for all."""
    if not weights.stamp or weights.sha256 is None:
        source = {"claimName": claim, "readOnly": True}
        return Supply([{"name": VOLUME, "persistentVolumeClaim": source}], _mount(read_only=True))
    command = ["python", "-m", "serving", "verify", "--model", path(weights), "--sha256", weights.sha256]
    if projector is not None and projector.sha256 is not None:
        command += ["--mmproj", projector.path, "--mmproj-sha256", projector.sha256]
    verify = containers.berth(
        frame,
        "weights",
        command,
        mounts=[_mount(read_only=False)],
    )
    volume = {"name": VOLUME, "persistentVolumeClaim": {"claimName": claim}}
    return Supply([volume], _mount(read_only=True), [verify])


def _image_copy(frame: Frame, weights: Weights, image: str, projector: Projector | None) -> Supply:
    """A container of the weights' own image copies them; that image needs no program of its own.

    So a first container leaves a static program in a shared volume, and the second one runs it.
    """
    tools_volume, tools = copy_program(frame)
    copies = {"weights": [name.lstrip("/") for name in files(weights)]}
    if projector is not None:
        beside = _folder(projector.file) == _folder(copies["weights"][0])
        copies.setdefault("weights" if beside else "projector", []).append(projector.file)
    made = [
        containers.bare(
            name,
            image,
            [f"{TOOLS_FOLDER}/copy", "--to", _folder(sources[0]), *(f"/{source}" for source in sources)],
            mounts=[
                {"name": TOOLS_VOLUME, "mountPath": TOOLS_FOLDER, "readOnly": True},
                {"name": VOLUME, "mountPath": COPY_FOLDER},
            ],
        )
        for name, sources in copies.items()
    ]
    return Supply([tools_volume, _scratch(weights, projector)], _mount(read_only=True), [tools, *made])


def _folder(file: str) -> str:
    return str((PurePosixPath(COPY_FOLDER) / file).parent)


def projector_arguments(projector: Projector | None) -> list[str]:
    """Return what the front has to know to check the projector before it is served."""
    if projector is None:
        return []
    return ["--mmproj", ":".join(map(str, filter(None, (projector.path, projector.size, projector.sha256))))]


def copy_program(frame: Frame) -> tuple[Object, Object]:
    """Return a volume, and the container that leaves the copying program in it."""
    tools = containers.berth(
        frame,
        TOOLS_VOLUME,
        ["python", "-m", "serving", "tools", "--to", f"{TOOLS_FOLDER}/copy"],
        mounts=[{"name": TOOLS_VOLUME, "mountPath": TOOLS_FOLDER}],
    )
    return {"name": TOOLS_VOLUME, "emptyDir": {"sizeLimit": "64Mi"}}, tools


def _download(frame: Frame, weights: Weights, projector: Projector | None) -> Supply:
    """Our own image downloads the files at a fixed revision, and checks the sha256 where one is known."""
    command = ["python", "-m", "serving", "fetch", "--repository", weights.hf or ""]
    if weights.revision is not None:
        command += ["--revision", weights.revision]
    for name in files(weights):
        command += ["--file", name]
    if weights.sha256 is not None:
        command += ["--sha256", weights.sha256]
    if projector is not None:
        command += ["--mmproj", projector.file]
        if projector.sha256 is not None:
            command += ["--mmproj-sha256", projector.sha256]
    command += ["--size", str(_size(weights, projector)), "--to", FOLDER]
    environment: list[Object] = []
    if weights.token_secret is not None:
        reference = {"name": weights.token_secret, "key": TOKEN, "optional": False}
        environment.append({"name": TOKEN, "valueFrom": {"secretKeyRef": reference}})
        # So that a refusal of the hub can name the Secret to mend.
        environment.append({"name": "BERTH_TOKEN_SECRET", "value": weights.token_secret})
    cache = frame.fleet.weights.cache
    volume, place = _scratch(weights, projector), {}
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


def _size(weights: Weights, projector: Projector | None) -> int:
    return weights.size + (projector.size if projector is not None else 0)


def _scratch(weights: Weights, projector: Projector | None) -> Object:
    """Room for the files and, while they are hashed and renamed, some more."""
    room = -(-_size(weights, projector) * 105 // 100 // GIB) + 1
    return {"name": VOLUME, "emptyDir": {"sizeLimit": format_bytes(room * GIB)}}


def _mount(*, read_only: bool) -> Object:
    # The API server does not keep a `false` that is the default, so none is written.
    return {"name": VOLUME, "mountPath": FOLDER, **({"readOnly": True} if read_only else {})}
