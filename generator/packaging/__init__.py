"""`berth package`: a GGUF file becomes an OCI image that clusters mount or copy.

The files lie in the image where the charts look for them: a Workspace's image volume is mounted at `/models`,
and the copying container reads the same paths below `/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from generator.packaging import images, layouts, subjects
from generator.packaging.errors import PackagingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generator.packaging.images import Image
    from generator.packaging.subjects import Subject

__all__ = ["Packed", "Progress", "package"]

LAYOUT, DOCKER = "oci-dir:", "docker://"


class Progress(Protocol):
    """Told what is done and how many bytes of it."""

    def begin(self, what: str, size: int) -> None: ...

    def advance(self, count: int) -> None: ...


@dataclass(frozen=True)
class Packed:
    """A finished image. `reference` names it by its digest, fit for a Workspace if it is in a registry."""

    reference: str
    subject: Subject
    image: Image
    projector: str | None = None
    """Path of the model's projector in it."""

    def to_json(self) -> dict[str, Any]:
        """The document of `--format json`."""
        files = [
            {"file": layer.part.path, "size": layer.part.size, "sha256": layer.sha256, "layer": layer.digest}
            for layer in self.image.layers
        ]
        return {
            "reference": self.reference,
            "digest": self.image.root.digest,
            "preset": self.subject.preset,
            "file": self.image.layers[0].part.path,
            "files": files,
            "labels": images.describe(self.subject, self.image.layers),
        }


def package(
    file: Path,
    to: str,
    progress: Progress,
    *,
    preset: str | None = None,
    quantization: str | None = None,
    path: str | None = None,
    mmproj: Path | None = None,
    platforms: Sequence[str] = images.PLATFORMS,
    plain_http: bool | None = None,
) -> Packed:
    """Make the image of a model and write or push it.

    Raises:
        BerthError: the file is none that can be packaged, or the place none that takes it.
    """
    send = _target(to, plain_http)
    subject = subjects.read(file, preset=preset, quantization=quantization, path=path)
    projector = None if mmproj is None else subjects.projector(mmproj, subject.parts[0].path)
    parts = subject.parts if projector is None else (*subject.parts, projector)
    progress.begin("reading", sum(part.size for part in parts))
    layers = [images.layer(part, progress.advance) for part in parts]
    subject = subjects.must_match(subject, layers[0].sha256)
    image = images.image(subject, layers, platforms)
    return Packed(send(image, progress), subject, image, projector.path if projector else None)


class _Send(Protocol):
    def __call__(self, image: Image, progress: Progress) -> str: ...


def _target(to: str, plain_http: bool | None) -> _Send:
    """The place is judged before gigabytes are read."""
    if to.startswith(DOCKER):
        from generator.packaging import registry

        reference = registry.parse(to.removeprefix(DOCKER))

        def push(image: Image, progress: Progress) -> str:
            progress.begin(f"pushing to {reference.host}", _size(image))
            with registry.Registry(reference, plain_http=plain_http) as target:
                target.push(image, progress.advance)
            return f"{reference}@{image.root.digest}"

        return push
    if to.startswith(LAYOUT):
        folder, _, tag = to.removeprefix(LAYOUT).rpartition(":")
        if not folder or "/" in tag:
            folder, tag = to.removeprefix(LAYOUT), "latest"

        def write(image: Image, progress: Progress) -> str:
            progress.begin(f"writing to {folder}", _size(image))
            layouts.write(image, Path(folder), tag, progress.advance)
            return f"oci:{folder}:{tag}@{image.root.digest}"

        if folder:
            return write
    raise PackagingError(f"{to!r} is neither {LAYOUT}PATH[:TAG] nor {DOCKER}registry/name:tag")


def _size(image: Image) -> int:
    return sum(blob.size for blob in image.blobs)
