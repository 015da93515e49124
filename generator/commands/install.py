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
        str | None,
        typer.Option("--out", "-o", metavar="DIR|-", help="The folder to write, or - for one stream."),
    ] = None,
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
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Take it out of kubectl's cluster; Workspaces and their pods stay."),
    ] = False,
    only_print: Annotated[
        bool, typer.Option("--dry-run", help="With --remove: print the commands, change nothing.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            min=0,
            metavar="SECONDS",
            help="With --remove: for Workspaces that are being deleted; 0 leaves their nodes to you.",
        ),
    ] = 600,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            help="With --remove: another context of the kubeconfig.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the folder differs from a fresh render.")
    ] = False,
) -> None:
    """Render what the cluster needs once: the Workspace CRD, the admission webhook and the node watcher.

    Examples:

    berth install --out - --fleet berth.yaml | kubectl apply --server-side -f -

    berth install --out platform     # to commit, for Argo CD or Flux

    berth install --remove --dry-run     # what it would take away

    berth install -f helm -o chart && helm install berth chart -n berth-system
    """
    from generator.platform import output

    strangers = _removal_alone(only_print, context) if not remove else _rendering_alone(out, fleet, check)
    if strangers:
        typer.echo(f"error: {strangers}", err=True)
        raise typer.Exit(2)
    if remove:
        raise typer.Exit(_remove(context, only_print=only_print, wait=wait))
    if out is None:
        typer.echo("error: name the folder to write with --out, or - for one stream", err=True)
        raise typer.Exit(2)
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


def _removal_alone(only_print: bool, context: str | None) -> str:
    asked = [name for name, given in (("--dry-run", only_print), ("--context", context)) if given]
    verb = "mean" if len(asked) > 1 else "means"
    return f"{' and '.join(asked)} only {verb} something with --remove" if asked else ""


def _rendering_alone(out: str | None, fleet: Path | None, check: bool) -> str:
    asked = [name for name, given in (("--out", out), ("--fleet", fleet), ("--check", check)) if given]
    return (
        f"--remove takes it out of the cluster and writes nothing; leave {' and '.join(asked)} out"
        if asked
        else ""
    )


def _remove(context: str | None, *, only_print: bool, wait: float) -> int:
    from generator.kubectl import Kubectl
    from generator.platform.removal import Removal

    return Removal(Kubectl(context), typer.echo, dry_run=only_print, wait_s=wait).run()
