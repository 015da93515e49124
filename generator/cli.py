"""The command line: which commands there are, and how errors become words and exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from generator.commands import (
    check,
    doctor,
    explain,
    import_,
    init,
    install,
    package,
    plan,
    presets,
    render,
    size,
    skus,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FINE, EXIT_PROBLEMS, EXIT_COULD_NOT_RUN = 0, 1, 2

app = typer.Typer(
    name="berth",
    help=(
        "Give every open model a berth of the right size.\n\n"
        "Workspace specs in git become sized plans and manifests to review, for Argo CD or Flux to sync."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("init")(init.command)
app.command("check")(check.command)
app.command("plan")(plan.command)
app.command("render")(render.command)
app.command("verify")(verify.command)
app.command("presets")(presets.command)
app.command("explain")(explain.command)
app.command("skus")(skus.command)
app.command("size")(size.command)
app.command("package")(package.command)
app.command("install")(install.command)
app.command("doctor")(doctor.command)
app.command("import")(import_.command)


def _version(asked: bool) -> None:
    if asked:
        from berth import __version__

        typer.echo(f"berth {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the command."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a person never sees a traceback of bad input."""
    from berth.errors import BerthError

    try:
        app(args=list(arguments), prog_name="berth", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_COULD_NOT_RUN
    except BerthError as error:
        typer.echo(f"error: {error}", err=True)
        return EXIT_COULD_NOT_RUN
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; silence the flush at exit as well.
        sys.stdout = None
        return EXIT_FINE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {name}{error.strerror or error}", err=True)
        return EXIT_COULD_NOT_RUN
    return EXIT_FINE
