"""How findings are shown: a table for people, JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from generator import terminal
from generator.doctor.findings import State
from generator.reports import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generator.doctor.findings import Finding

_MARKS = {
    State.fine: ("fine", "green"),
    State.warning: ("warning", "yellow"),
    State.error: ("error", "red"),
    State.unknown: ("unknown", "cyan"),
}


def as_json(findings: Sequence[Finding]) -> str:
    """One JSON document."""
    told = [
        {"area": one.area, "what": one.what, "state": one.state.value, "why": one.why, "fix": one.fix}
        for one in findings
    ]
    return json.dumps({"healthy": healthy(findings), "findings": told}, indent=2, ensure_ascii=False)


NARROW = 100
"""Columns below which a finding's words get lines of their own; side by side they would be torn."""


def show(findings: Sequence[Finding]) -> None:
    """Print the table, with the fix below what is wrong."""
    from rich.table import Table
    from rich.text import Text

    screen = terminal.console()
    if screen.width < NARROW:
        for one in findings:
            word, colour = _MARKS[one.state]
            screen.print(Text(word, style=colour), Text(f"{one.area}: {one.what}"), soft_wrap=True)
            screen.print(Text(f"    {one.why}"), soft_wrap=True)
            if one.fix:
                screen.print(Text(f"    → {one.fix}"), soft_wrap=True)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "Where", "What", "Why, and the fix"):
        table.add_column(title, overflow="fold")
    for one in findings:
        word, colour = _MARKS[one.state]
        why = Text(one.why)
        if one.fix:
            why.append("\n→ ", style="bold")
            why.append(one.fix)
        table.add_row(Text(word, style=colour), Text(one.area), Text(one.what), why)
    screen.print(table)


def summary(findings: Sequence[Finding]) -> str:
    """The last line for people."""
    count = {state: sum(one.state is state for one in findings) for state in State}
    parts = [f"{count[State.fine]} fine"]
    if count[State.error]:
        parts.append(counted(count[State.error], "error", "errors"))
    if count[State.warning]:
        parts.append(counted(count[State.warning], "warning", "warnings"))
    if count[State.unknown]:
        parts.append(f"{count[State.unknown]} could not be looked at")
    return ", ".join(parts)


def healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong; a warning is not."""
    return not any(one.state is State.error for one in findings)
