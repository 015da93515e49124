"""One line of JSON for each event."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from kube.logs import JsonFormatter, fields


def line(message: str, *arguments: Any, error: BaseException | None = None, **values: Any) -> dict[str, Any]:
    """What a logging call becomes."""
    logger = logging.Logger("watcher.runner")
    about = None if error is None else (type(error), error, error.__traceback__)
    record = logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, message, arguments, about, extra=fields(**values)
    )
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_holds_the_message_and_its_fields() -> None:
    found = line("%d\nnodes", 3, claim="ws1", dry_run=None)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning", "logger": "watcher.runner", "message": "3\nnodes", "claim": "ws1",
    }  # fmt: skip


def test_what_json_does_not_know_is_told_as_text() -> None:
    found = line("x", file=Path("/etc/berth"), counts={1: "a"})
    assert (found["file"], found["counts"]) == ("/etc/berth", {"1": "a"})


def test_an_exception_stands_in_the_same_line() -> None:
    try:
        raise ValueError("no such node")
    except ValueError:
        error = sys.exc_info()[1]
    assert "ValueError: no such node" in line("failed", error=error)["exception"]
