"""A cold `berth render` against a straightforward cdk8s program that makes the same objects.

Ours reads the specs, plans every Workspace, renders and writes; the other gets the objects for nothing.
Both run in turn in one session, so that the ratio holds on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import specs
import yaml

TARGET, DREAM = 1.5, 2.5


def main() -> None:
    """Run both programs in turn, compare what they wrote, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    with specs.scratch() as folder:
        base = Path(folder)
        specs.write(base / "specs", options.count)
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        jobs = ["--jobs", str(options.jobs)] if options.jobs else []
        for _ in range(options.rounds):
            shutil.rmtree(base / "ours", ignore_errors=True)
            command = ("-m", "generator", "render", str(base / "specs"), "--out", str(base / "ours"), *jobs)
            ours.append(specs.run(*command, cache=base / "cache"))
            objects = _objects(base / "ours")
            (base / "objects.json").write_text(json.dumps(objects), encoding="utf-8")
            shutil.rmtree(base / "theirs", ignore_errors=True)
            program = str(Path(__file__).with_name("straightforward.py"))
            node = _node()
            command = (program, str(base / "objects.json"), str(base / "theirs"))
            theirs.append(specs.run(*command, cache=base / "cache", node=node))
        count = sum(map(len, objects.values()))
        _compare(objects, base / "theirs")
    wall = [[seconds for seconds, _ in runs] for runs in (ours, theirs)]
    cpu = [[seconds for _, seconds in runs] for runs in (ours, theirs)]
    specs.report(
        f"cold render of {options.count} Workspaces, {count} objects",
        {
            "berth render: reads, plans, renders": wall[0],
            "straightforward cdk8s: renders": wall[1],
            "berth render, CPU of all processes": cpu[0],
            "straightforward cdk8s, CPU": cpu[1],
        },
        f"{TARGET} times faster, {DREAM} as the dream",
    )
    faster, cheaper = (specs.ratio(theirs, ours) for ours, theirs in (wall, cpu))
    print(f"  berth is {faster:.2f} times faster, and takes {cheaper:.2f} times less CPU")


def _objects(folder: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for path in sorted(folder.glob("*/*.yaml")):
        if path.name != "kustomization.yaml":
            with path.open("rb") as stream:
                found.setdefault(path.parent.name, []).append(yaml.load(stream, Loader=yaml.CSafeLoader))
    return found


def _compare(objects: dict[str, list[dict[str, object]]], theirs: Path) -> None:
    """Both must have made the same objects, or the ratio means nothing; cdk8s names folders its own way."""
    mine = [thing for things in objects.values() for thing in things]
    other = [yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader) for path in theirs.glob("*/*.yaml")]
    if _texts(mine) != _texts(other):
        raise SystemExit("the two programs made different objects")


def _texts(objects: list[dict[str, object]]) -> list[str]:
    return sorted(json.dumps(thing, sort_keys=True) for thing in objects)


def _node() -> str:
    from generator import bridge

    return bridge.bundled_node()


if __name__ == "__main__":
    main()
