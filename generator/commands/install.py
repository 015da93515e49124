"""`berth install`: what the cluster needs once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Format(StrEnum):
    """How the platform is written."""

    kustomize = "kustomize"
    helm = "helm"


def command(
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR|-", help="The folder to write, or - for one stream.")
    ],
    fleet: Annotated[
        Path | None,
        typer.Option(
            "--fleet", metavar="FILE", exists=True, dir_okay=False, help="The fleet file; absent: defaults."
        ),
    ] = None,
    certificates: Annotated[
        Literal["own", "cert-manager"],
        typer.Option(
            "--certificates",
            metavar="own|cert-manager",
            help="Who makes the webhook's certificates: itself, or cert-manager.",
        ),
    ] = "own",
    format: Annotated[
        Format, typer.Option("--format", "-f", help="A Kustomize base, or a Helm chart of the same objects.")
    ] = Format.kustomize,
    watcher: Annotated[
        bool, typer.Option("--watcher/--no-watcher", help="Whether the node watcher belongs to it.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--watcher-dry-run", help="Let the watcher only say what it would do.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the folder differs from a fresh render.")
    ] = False,
) -> None:
    """Render what the cluster needs once: the Workspace CRD, the admission webhook and the node watcher.

    Examples:

      berth install --out - --fleet berth.yaml | kubectl apply --server-side -f -

      berth install --out platform     # to commit, for Argo CD or Flux

      berth install --format helm --out chart && helm install berth chart --namespace berth-system
    """
    from generator.platform import output

    code = output.command_line(
        out,
        check=check,
        fleet=fleet,
        certificates=certificates,
        watcher=watcher,
        dry_run=dry_run,
        chart=format is Format.helm,
    )
    raise typer.Exit(code)
