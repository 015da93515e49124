"""`berth doctor`: what is wrong with a repository and a cluster, and how to mend it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How the findings are written."""

    table = "table"
    json = "json"


def command(
    root: Annotated[
        Path,
        typer.Argument(metavar="[DIR]", exists=True, file_okay=False, help="The repository."),
    ] = Path(),
    repository: Annotated[
        bool, typer.Option("--repository/--no-repository", help="Whether to look at the repository.")
    ] = True,
    cluster: Annotated[
        bool | None,
        typer.Option(
            "--cluster/--no-cluster",
            help="Whether to look at kubectl's cluster; by default if there is one.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="NAME", help="Another context of the kubeconfig.")
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How to write the findings.")
    ] = Format.table,
) -> None:
    """Look at a repository and a cluster, and name the fix of everything that is wrong.

    Nothing is changed: the cluster is only read, through kubectl, apart from one dry run of a Workspace that
    shows whether the API server reaches the webhook.

    Examples:

    berth doctor

    berth doctor fleet --cluster --context production

    berth doctor --no-repository --format json
    """
    from generator import doctor
    from generator.doctor import report
    from generator.kubectl import Kubectl

    findings = doctor.look(root, Kubectl(context), repository=repository, cluster=cluster)
    if format is Format.json:
        typer.echo(report.as_json(findings))
    else:
        report.show(findings)
        typer.echo(report.summary(findings), err=True)
    raise typer.Exit(0 if report.healthy(findings) else 1)
