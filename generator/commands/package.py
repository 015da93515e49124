"""`berth package`: a model's files as an OCI image."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from generator.packaging import Packed


class Format(StrEnum):
    """How the result is written."""

    text = "text"
    json = "json"


def command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.gguf", help="The file, or the first one of a split model.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLACE",
            help="oci-dir:PATH[:TAG] or docker://registry/name:tag.",
            show_default=False,
        ),
    ],
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The preset that it belongs to; by default its file's name tells."),
    ] = None,
    quantization: Annotated[
        str | None, typer.Option("--quantization", "-q", metavar="Q", help="By default the file's own.")
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Of the first file in the image; by default the preset's."),
    ] = None,
    mmproj: Annotated[
        Path | None,
        typer.Option("--mmproj", metavar="FILE", help="The model's projector for images; it lies beside it."),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(metavar="OS/ARCH", help="Repeatable; by default linux/amd64 and linux/arm64."),
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Push without TLS; loopback addresses need no flag.")
    ] = False,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write the result.")] = Format.text,
) -> None:
    """Make a reproducible OCI image of a model, one layer a file, and write or push it.

    Prints the image's reference with its digest. Logins are docker's and podman's.

    Examples:

    berth package falcon-7b.Q4_K_M.gguf --to docker://example.com/falcon-7b:q4_k_m

    berth package model-00001-of-00003.gguf --to oci-dir:./image
    """
    from generator import packaging
    from generator.packaging import images

    with _Bar() as bar:
        packed = packaging.package(
            model,
            to,
            bar,
            preset=preset,
            quantization=quantization,
            path=path,
            mmproj=mmproj,
            platforms=tuple(platform or images.PLATFORMS),
            plain_http=plain_http or None,
        )
    if format is Format.json:
        typer.echo(json.dumps(packed.to_json(), indent=2))
        return
    typer.echo(packed.reference)
    typer.echo(_usage(packed), err=True)


def _usage(packed: Packed) -> str:
    file = packed.image.layers[0].part.path
    origin = f"preset {packed.subject.preset}" if packed.subject.preset else "no preset of the catalogue"
    told = f"{packed.subject.title}: {origin}, licence {packed.subject.license or 'unknown'}"
    if packed.reference.startswith("oci:"):
        return told
    if packed.subject.adapter:
        size = packed.image.layers[0].part.size
        return (
            f"{told}\nIn a Workspace:\n\n  inference:\n    adapters:\n    - source: {{name: NAME, image: "
            f"{packed.reference}}}\n    llamacpp:\n      adapters:\n      - {{name: NAME, file: {file}, "
            f"size: {size}}}"
        )
    fields = f"        image: {packed.reference}\n        file: {file}"
    if packed.projector:
        fields += f"\n      mmproj:\n        file: {packed.projector}"
    return f"{told}\nIn a Workspace:\n\n  inference:\n    llamacpp:\n      weights:\n{fields}"


class _Bar:
    """A progress bar on stderr, which shows nothing where nobody watches."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, what: str, size: int) -> None:
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=size)

    def advance(self, count: int) -> None:
        self._progress.update(self._task, advance=count)
