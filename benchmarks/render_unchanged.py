"""A `berth render` of Workspaces that did not change: what every pull request of a large fleet pays.

Node is replaced by a program that fails, so that a run that starts it fails too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import specs

TARGET_SECONDS = 0.7


def main() -> None:
    """Render once, then again and again without a change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with specs.scratch() as folder:
        base = Path(folder)
        specs.write(base / "specs", options.count)
        command = ("-m", "generator", "render", str(base / "specs"), "--out", str(base / "out"))
        cold, _ = specs.run(*command, cache=base / "cache")
        warm, fresh, bare = [], [], []
        for round_ in range(options.rounds):
            warm.append(specs.run(*command, cache=base / "cache", node="/bin/false")[0])
            bare.append(specs.run("-c", "pass", cache=base / "cache")[0])
            if round_ < 2:
                # As on a machine that has never rendered: everything is planned again, nothing rendered.
                fresh.append(specs.run(*command, cache=base / f"none-{round_}", node="/bin/false")[0])
    specs.report(
        f"render of {options.count} unchanged Workspaces, no Node",
        {
            "the first render": [cold],
            "unchanged": warm,
            "unchanged, on a fresh clone": fresh,
            "Python that does nothing": bare,
        },
        f"unchanged under {TARGET_SECONDS} s",
    )


if __name__ == "__main__":
    main()
