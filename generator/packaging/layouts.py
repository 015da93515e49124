"""An OCI image layout: a folder that skopeo, podman and buildah read as `oci:PATH:TAG`."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from generator.files import named
from generator.packaging.errors import PackagingError
from generator.packaging.images import INDEX, PIECE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from generator.packaging.images import Blob, Image

MARK = "oci-layout"
TAG = "org.opencontainers.image.ref.name"


def write(image: Image, folder: Path, tag: str, progress: Callable[[int], None]) -> None:
    """Add an image to a layout; what others of its images share is there once.

    Raises:
        PackagingError: the folder holds something else.
    """
    mark = folder / MARK
    if folder.exists() and not mark.exists() and any(folder.iterdir()):
        raise PackagingError(f"{folder} is no OCI layout and not empty; name a new folder")
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    _replace(mark, b'{"imageLayoutVersion":"1.0.0"}')
    blobs_and_manifests: list[Blob] = [*image.blobs, *image.manifests, image.root]
    for blob in blobs_and_manifests:
        _write(blob, blobs / blob.digest.removeprefix("sha256:"), progress)
    _tag(image, folder / "index.json", tag)


def _tag(image: Image, place: Path, tag: str) -> None:
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    if place.exists():
        index = json.loads(place.read_text("utf-8"))
    root = image.root
    others = [entry for entry in index["manifests"] if entry.get("annotations", {}).get(TAG) != tag]
    entry = {
        "mediaType": root.media_type,
        "digest": root.digest,
        "size": root.size,
        "annotations": {TAG: tag},
    }
    listed = sorted([*others, entry], key=lambda found: str(found.get("annotations", {}).get(TAG)))
    _replace(place, json.dumps({**index, "manifests": listed}, sort_keys=True).encode())


def _write(blob: Blob, place: Path, progress: Callable[[int], None]) -> None:
    """Write a blob under its digest, compared once more while it is copied."""
    if place.exists() and place.stat().st_size == blob.size:
        progress(blob.size)
        return
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with named(place), temporary.open("wb") as stream:
            offset = 0
            while data := blob.read(offset, PIECE):
                stream.write(data)
                digest.update(data)
                offset += len(data)
                progress(len(data))
        if f"sha256:{digest.hexdigest()}" != blob.digest:
            raise PackagingError("the model's file changed while it was packaged")
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _replace(place: Path, data: bytes) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    with named(place):
        temporary.write_bytes(data)
    temporary.replace(place)
