"""Write every generated page and manifest again, or with `--check` tell which are stale: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from generator import platform, render
from tools import (
    cli_reference,
    conditions_reference,
    field_reference,
    instance_table,
    memory_picture,
    presets_table,
    watcher_reference,
    webhook_reference,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

EXAMPLES = (
    ("examples/kaito", "manifests/examples/kaito"),
    ("examples/fleet/workspaces", "examples/fleet/rendered"),
)


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every generated text with its place."""
    reference = ROOT / "docs" / "reference"
    yield reference / "cli.md", cli_reference.text()
    yield reference / "presets.md", presets_table.text()
    yield reference / "instance-types.md", instance_table.text()
    yield reference / "webhook.md", webhook_reference.text()
    yield reference / "conditions.md", conditions_reference.text()
    yield reference / "watcher.md", watcher_reference.text()
    yield ROOT / "docs" / "images" / "sizing.svg", memory_picture.text()
    for name, text in field_reference.files().items():
        yield ROOT / name, text
    for name, text in platform.files(platform.Settings()).items():
        yield ROOT / "manifests" / "platform" / name, text


def main() -> int:
    """Write the pages; with `--check`, return 1 if one of them is stale."""
    check = "--check" in sys.argv[1:]
    stale = [(place, text) for place, text in pages() if not place.is_file() or place.read_text() != text]
    for place, text in stale:
        if check:
            print(f"{place.relative_to(ROOT)} is stale; run `make docs`", file=sys.stderr)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
            print(f"wrote {place.relative_to(ROOT)}")
    outcomes = [
        render.command_line([str(ROOT / specs)], out=str(ROOT / out), check=check) for specs, out in EXAMPLES
    ]
    return 1 if (check and stale) or any(outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
