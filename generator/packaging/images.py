"""An OCI image of a model, byte for byte the same wherever and whenever it is made.

One uncompressed layer a file, since weights do not compress, with fixed owner, mode and time. Runtimes pull
an image for their own platform, so there is a manifest for each; they share the layers.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from berth import labels
from generator.packaging.errors import PackagingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from generator.packaging.subjects import Part, Subject

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PLATFORMS = ("linux/amd64", "linux/arm64")
CREATED = "1970-01-01T00:00:00Z"
PIECE = 8 * 2**20
_BLOCK = 512


class Blob(Protocol):
    """Content by its digest, readable from any place on, so that an upload can go on after a break."""

    @property
    def digest(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; none at the end."""


@dataclass(frozen=True)
class Document:
    """A small JSON blob."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


@dataclass(frozen=True)
class Layer:
    """A tar archive of one file, never on disk: its header and trailer stand around the file's own bytes."""

    part: Part
    head: bytes
    tail: bytes
    digest: str
    sha256: str
    """Of the file itself, in hexadecimal digits."""

    @property
    def size(self) -> int:
        return len(self.head) + self.part.size + len(self.tail)

    def read(self, offset: int, length: int) -> bytes:
        if offset < len(self.head):
            return self.head[offset : offset + length]
        offset -= len(self.head)
        if offset < self.part.size:
            with self.part.file.open("rb", buffering=0) as stream:
                stream.seek(offset)
                data = stream.read(min(length, self.part.size - offset))
            if not data:
                raise PackagingError(f"{self.part.file} became shorter while it was packaged")
            return data
        offset -= self.part.size
        return self.tail[offset : offset + length]


@dataclass(frozen=True)
class Image:
    """Everything that is written or pushed: blobs first, then the manifests, last what they are named by."""

    layers: tuple[Layer, ...]
    configs: tuple[Document, ...]
    manifests: tuple[Document, ...]
    root: Document
    """The index, or the manifest where there is one platform."""

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """What has to be there before a manifest may name it."""
        return (*self.layers, *self.configs)


def layer(part: Part, progress: Callable[[int], None]) -> Layer:
    """Read a file once for both its own sha256 and its layer's.

    Raises:
        PackagingError: it changed meanwhile.
    """
    head, tail = _head(part), bytes(-part.size % _BLOCK + 2 * _BLOCK)
    own, whole, done = hashlib.sha256(), hashlib.sha256(head), 0
    with part.file.open("rb", buffering=0) as stream:
        buffer = bytearray(PIECE)
        view = memoryview(buffer)
        while count := stream.readinto(buffer):
            own.update(view[:count])
            whole.update(view[:count])
            done += count
            progress(count)
    if done != part.size:
        raise PackagingError(f"{part.file} changed while it was read")
    whole.update(tail)
    return Layer(part, head, tail, f"sha256:{whole.hexdigest()}", own.hexdigest())


def image(subject: Subject, layers: Sequence[Layer], platforms: Sequence[str] = PLATFORMS) -> Image:
    """Return the image of a model from its layers."""
    known = describe(subject, layers)
    configs = tuple(_config(platform, known, layers) for platform in platforms)
    manifests = tuple(_manifest(config, known, layers) for config in configs)
    root = manifests[0]
    if len(platforms) > 1:
        listed = [
            {**_descriptor(manifest), "platform": _platform(platform)}
            for manifest, platform in zip(manifests, platforms, strict=True)
        ]
        root = _document(
            INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": known}
        )
    return Image(tuple(layers), configs, manifests, root)


def describe(subject: Subject, layers: Sequence[Layer]) -> dict[str, str]:
    """Return labels for people and scanners; the same stand as annotations."""
    files = [{"file": layer.part.path, "size": layer.part.size, "sha256": layer.sha256} for layer in layers]
    weights = "weights" if subject.quantization is None else f"{subject.quantization} weights"
    known = {
        "org.opencontainers.image.title": subject.title,
        "org.opencontainers.image.description": f"{weights} of {subject.title} as GGUF, for llama.cpp",
        "org.opencontainers.image.version": subject.quantization,
        "org.opencontainers.image.licenses": subject.license,
        "org.opencontainers.image.source": subject.source,
        "org.opencontainers.image.revision": subject.revision,
        f"{labels.DOMAIN}/preset": subject.preset,
        f"{labels.DOMAIN}/architecture": subject.architecture,
        f"{labels.DOMAIN}/file": layers[0].part.path,
        f"{labels.DOMAIN}/sha256": layers[0].sha256,
        f"{labels.DOMAIN}/files": json.dumps(files, separators=(",", ":")),
    }
    return {name: value for name, value in known.items() if value}


def _head(part: Part) -> bytes:
    """The archive up to the file's bytes: its folders and its own header."""
    entries = []
    for folder in reversed(PurePosixPath(part.path).parents[:-1]):
        entry = tarfile.TarInfo(str(folder))
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        entries.append(entry)
    file = tarfile.TarInfo(part.path)
    file.size, file.mode = part.size, 0o444
    return b"".join(entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") for entry in [*entries, file])


def _config(platform: str, known: dict[str, str], layers: Sequence[Layer]) -> Document:
    history = [
        {"created": CREATED, "created_by": "berth package", "comment": layer.part.path} for layer in layers
    ]
    return _document(
        CONFIG,
        {
            "created": CREATED,
            **_platform(platform),
            "config": {"WorkingDir": "/", "Labels": known},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": history,
        },
    )


def _manifest(config: Document, known: dict[str, str], layers: Sequence[Layer]) -> Document:
    listed = [
        {
            "mediaType": LAYER,
            "digest": layer.digest,
            "size": layer.size,
            "annotations": {"org.opencontainers.image.title": layer.part.path},
        }
        for layer in layers
    ]
    return _document(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(config),
            "layers": listed,
            "annotations": known,
        },
    )


def _document(media_type: str, data: dict[str, Any]) -> Document:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Document(media_type, text.encode())


def _descriptor(document: Document) -> dict[str, Any]:
    return {"mediaType": document.media_type, "digest": document.digest, "size": document.size}


def _platform(text: str) -> dict[str, str]:
    system, separator, architecture = text.partition("/")
    if not (system and separator and architecture):
        raise PackagingError(f"{text!r} is no platform such as {PLATFORMS[0]}")
    return {"os": system, "architecture": architecture}
