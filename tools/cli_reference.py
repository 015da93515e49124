"""The page docs/reference/cli.md, made from the signatures and docstrings of the commands."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

from typer.models import ArgumentInfo, OptionInfo

from generator import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTRODUCTION = """\
# The command line

<!-- Made by `make docs` from the commands themselves; do not edit. -->

PATH is a file, a folder or `-` for standard input. Data goes to standard output, talk to standard error.
Exit codes: 0 fine, 1 problems found, 2 could not run. `berth --install-completion` sets up the shell.
"""


def text() -> str:
    """Return the page."""
    sections = [INTRODUCTION]
    for command in cli.app.registered_commands:
        assert command.callback is not None
        sections.append("\n".join(_section(str(command.name), command.callback)))
    return "\n".join(sections).rstrip() + "\n"


def _section(name: str, callback: Callable[..., Any]) -> Iterator[str]:
    paragraphs, examples = _split(inspect.getdoc(callback) or "")
    hints = typing.get_type_hints(callback, include_extras=True)
    rows, arguments = [], []
    for parameter in inspect.signature(callback).parameters.values():
        kind, *annotations = typing.get_args(hints[parameter.name])
        info = next(found for found in annotations if isinstance(found, ArgumentInfo | OptionInfo))
        if isinstance(info, ArgumentInfo):
            metavar = info.metavar or parameter.name.upper()
            arguments.append(metavar)
            rows.append((f"`{metavar}`", info.help or ""))
        else:
            rows.append((_option(parameter.name, kind, info), _meaning(parameter.default, info)))
    yield f"## berth {name}\n"
    yield "\n\n".join(paragraphs) + "\n"
    yield f"```text\nberth {' '.join([name, *arguments])} [OPTIONS]\n```\n"
    yield "| option | meaning |\n| --- | --- |"
    yield from (f"| {_cell(left)} | {_cell(right)} |" for left, right in rows)
    yield ""
    if examples:
        yield "```sh\n" + "\n".join(examples) + "\n```\n"


def _split(help_text: str) -> tuple[list[str], list[str]]:
    before, _, after = help_text.partition("Examples:")
    paragraphs = [" ".join(part.split()) for part in before.strip().split("\n\n") if part.strip()]
    return paragraphs, [line.strip() for line in after.splitlines() if line.strip()]


def _option(name: str, kind: Any, info: OptionInfo) -> str:
    # Within Annotated, typer keeps the first declaration where a default would stand.
    first = (info.default,) if isinstance(info.default, str) else ()
    declared = (*first, *(info.param_decls or ())) or (f"--{name.replace('_', '-')}",)
    names = ", ".join(f"`{one}`" for one in declared)
    plain = next((one for one in typing.get_args(kind) if one is not types.NoneType), kind)
    if plain is bool:
        return names
    if isinstance(plain, type) and issubclass(plain, enum.Enum):
        return f"{names} `{'|'.join(str(choice.value) for choice in plain)}`"
    return f"{names} `{info.metavar or plain.__name__.upper()}`"


def _meaning(default: Any, info: OptionInfo) -> str:
    shown = getattr(default, "value", default)
    told = "" if default in (None, False, inspect.Parameter.empty) else f" Default: `{shown}`."
    return f"{info.help or ''}{told}".strip()


def _cell(content: str) -> str:
    return content.replace("|", "\\|")


if __name__ == "__main__":
    print(text(), end="")
