"""The page docs/reference/cli.md, made from the commands themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import typer.main

from generator import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

INTRODUCTION = """\
# The command line

<!-- Made by `make docs` from the commands themselves; do not edit. -->

PATH is a file, a folder or `-` for standard input. Data goes to standard output, talk to standard error.
Exit codes: 0 fine, 1 problems found, 2 could not run.
"""


def text() -> str:
    """Return the page."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, click.Group)
    sections = [INTRODUCTION]
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        sections.append("\n".join(_section(name, command)))
    return "\n".join(sections).rstrip() + "\n"


def _section(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=f"berth {name}")
    yield f"## berth {name}\n"
    paragraphs, examples = _split(command.help or "")
    yield "\n\n".join(paragraphs) + "\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"    berth {name} {usage}\n"
    yield "| option | meaning |\n| --- | --- |"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            yield f"| {_option(parameter, context)} | {_meaning(parameter)} |"
        elif isinstance(parameter, click.Argument):
            meaning = getattr(parameter, "help", None) or ""
            yield f"| `{parameter.make_metavar(context)}` | {meaning} |"
    yield ""
    if examples:
        yield "```sh\n" + "\n".join(examples) + "\n```\n"


def _split(help_text: str) -> tuple[list[str], list[str]]:
    before, _, after = help_text.partition("Examples:")
    paragraphs = [" ".join(part.split()) for part in before.strip().split("\n\n") if part.strip()]
    return paragraphs, [line.strip() for line in after.splitlines() if line.strip()]


def _option(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    metavar = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    return (names + metavar).replace("|", "\\|")


def _meaning(option: click.Option) -> str:
    meaning = option.help or ""
    default = option.default
    if default not in (None, False, (), []) and not callable(default):
        meaning += f" Default: `{getattr(default, 'value', default)}`."
    return meaning.replace("|", "\\|").strip()


if __name__ == "__main__":
    print(text(), end="")
