"""`berth size`: the memory of a preset or a GGUF file at given settings."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from generator import options
from generator.options import EntriesOfFleet


class Format(StrEnum):
    """How the figures are written."""

    table = "table"
    json = "json"


class Switch(StrEnum):
    """As llama-server's own switches are written."""

    on = "on"
    off = "off"


def command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|FILE.gguf",
            help="A preset's name, or a GGUF file.",
            autocompletion=options.preset_names,
        ),
    ],
    quantization: Annotated[
        str | None,
        typer.Option(
            "--quantization",
            "-q",
            metavar="Q",
            help="By default the preset's.",
            autocompletion=options.quantization_names,
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            "-c",
            metavar="TOKENS",
            min=1,
            help="Total over all slots; by default the preset's per slot.",
        ),
    ] = None,
    parallel: Annotated[int, typer.Option("--parallel", "-p", metavar="SLOTS", min=1, max=256)] = 1,
    cache_type_k: Annotated[str, typer.Option(metavar="TYPE", help="Of the KV cache's keys.")] = "f16",
    cache_type_v: Annotated[str, typer.Option(metavar="TYPE", help="Of the KV cache's values.")] = "f16",
    batch: Annotated[int | None, typer.Option(metavar="TOKENS", min=1, help="Logical batch.")] = None,
    ubatch: Annotated[int | None, typer.Option(metavar="TOKENS", min=1, help="Physical batch.")] = None,
    flash_attn: Annotated[Switch, typer.Option(help="Flash attention.")] = Switch.on,
    kv_unified: Annotated[Switch, typer.Option(help="One KV cache shared by all slots.")] = Switch.off,
    gpus: Annotated[int, typer.Option("--gpus", "-g", metavar="N", min=1, max=128, help="Equal GPUs.")] = 1,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Add what CUDA takes on this GPU: A10, V100, … See `berth skus`."),
    ] = None,
    mmproj: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.gguf|preset",
            help="Add what images take, with this projector or with the preset's own.",
        ),
    ] = None,
    image_max_tokens: Annotated[
        int | None,
        typer.Option(metavar="TOKENS", min=1, help="Of one image; by default the projector's own."),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How to write the figures.")
    ] = Format.table,
    fleet: EntriesOfFleet = None,
) -> None:
    """Show what a model takes, itemised for each GPU; settings mean what llama-server's flags mean.

    Examples:

    berth size llama-3.1-8b-instruct --context 32768 --parallel 4

    berth size qwen3-30b-a3b -q Q4_K_M --context 16384 --gpus 2 --format json

    berth size ./model.gguf --cache-type-k q8_0 --cache-type-v q8_0
    """
    from generator import sizes

    asked = sizes.Asked(
        model=model,
        quantization=quantization,
        context=context,
        parallel=parallel,
        cache_type_k=cache_type_k,
        cache_type_v=cache_type_v,
        batch=batch,
        ubatch=ubatch,
        flash_attention=flash_attn is Switch.on,
        kv_unified=kv_unified is Switch.on,
        gpus=gpus,
        gpu=gpu,
        fleet=fleet,
        mmproj=mmproj,
        image_max_tokens=image_max_tokens,
    )
    sized = sizes.size(asked)
    for warning in sized.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if format is Format.json:
        typer.echo(sizes.to_json(sized))
    else:
        sizes.show(sized)
