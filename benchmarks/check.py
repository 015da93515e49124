"""`berth check` of a large fleet, with the positions of its problems."""

from __future__ import annotations

import argparse
from pathlib import Path

import specs

TARGET_SECONDS = 1.0


def main() -> None:
    """Check Workspaces that are fine, and the same with a mistake in every tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with specs.scratch() as folder:
        base = Path(folder)
        specs.write(base / "fine", options.count)
        specs.write(base / "broken", options.count)
        for index, path in enumerate(sorted((base / "broken").rglob("*.yaml"))):
            if index % 10 == 0:
                path.write_text(
                    path.read_text(encoding="utf-8").replace("parallel:", "paralel:"), encoding="utf-8"
                )
        fine, broken = [], []
        for _ in range(options.rounds):
            fine.append(specs.run("-m", "generator", "check", str(base / "fine"), cache=base)[0])
            command = ("-m", "generator", "check", str(base / "broken"), "--format", "json")
            broken.append(specs.run(*command, cache=base, expected=1)[0])
    specs.report(
        f"check of {options.count} Workspaces",
        {"all fine": fine, "a mistake in every tenth, as JSON": broken},
        f"under {TARGET_SECONDS} s",
    )


if __name__ == "__main__":
    main()
