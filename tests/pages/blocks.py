"""The pages as the tests see them: fenced blocks in order, with the marks that stand before them.

A page is a script. Its blocks run from top to bottom in one empty folder: YAML with a `title` is written
there, lines of `sh` and of `console` after `$ ` are commands, what follows them is what they print, and `…`
stands for anything. Marks are comments that readers don't see: `<!-- before: berth init fleet; cd fleet -->`
runs first, `<!-- exit: 1 -->` says how the next block's last command ends, and `<!-- refused: words -->` what
`berth check` says against the next YAML.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
LANGUAGES = ("console", "sh", "yaml", "json", "text", "lua", "python")

_FENCE = re.compile(
    r"(?P<marks>(?:^[ ]*<!--[^\n]*-->\n)*)"
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_MARK = re.compile(r"<!-- *(\w+): *(.*?) *-->")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    title: str | None
    text: str
    marks: dict[str, str]
    line: int


@dataclass(frozen=True)
class Command:
    """One command line of a block, and what the page says it prints; None where it says nothing."""

    text: str
    output: str | None
    code: int
    line: int


def name(page: Path) -> str:
    """How tests call a page."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, _, more = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', more)
        found.append(
            Block(
                language=language,
                title=title[1] if title else None,
                text=textwrap.dedent(match["text"]),
                marks=dict(_MARK.findall(match["marks"])),
                line=text.count("\n", 0, match.start("info")) + 1,
            )
        )
    return found


def commands(block: Block) -> list[Command]:
    """The command lines of a block."""
    texts: list[tuple[str, str | None, int]] = []
    if block.language == "sh":
        lines = _joined(block.text.splitlines())
        texts.extend((text, None, number) for number, text in lines)
    elif block.language == "console":
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            (number, first), *rest = _joined(part.splitlines())
            texts.append((first, "\n".join(text for _, text in rest) or None, number))
    last = len(texts) - 1
    code = int(block.marks.get("exit", "0"))
    return [
        Command(text, output, code if place == last else 0, block.line + number + 1)
        for place, (text, output, number) in enumerate(texts)
        if text.strip() and not text.lstrip().startswith("#")
    ]


def _joined(lines: list[str]) -> list[tuple[int, str]]:
    """Lines with their numbers; one that ends with a backslash goes on in the next."""
    found: list[tuple[int, str]] = []
    open_ended = False
    for number, line in enumerate(lines):
        if open_ended:
            start, text = found[-1]
            found[-1] = (start, f"{text} {line.strip()}")
        else:
            found.append((number, line))
        open_ended = found[-1][1].endswith("\\")
        if open_ended:
            start, text = found[-1]
            found[-1] = (start, text[:-1].rstrip())
    return found
