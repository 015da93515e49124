"""The Workspaces that the benchmarks work on: as many as asked for, of many kinds, the same every time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PRESETS = (
    "falcon-7b",
    "llama-3.1-8b-instruct",
    "qwen3-8b",
    "mistral-7b-instruct",
    "phi-4",
    "smollm2-135m-instruct",
)
NAMESPACES = ("chat", "search", None)


def write(folder: Path, count: int) -> None:
    """Write `count` Workspaces, one file each."""
    for index in range(count):
        namespace = NAMESPACES[index % len(NAMESPACES)]
        place = folder / (namespace or "default")
        place.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_workspace(index, namespace), indent=2)
        lines = [f"# Model {index} of the benchmark.", *_yaml(json.loads(text))]
        (place / f"model-{index:04}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory where there is one, so that a slow disk does not drown the difference."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def run(*arguments: str, cache: Path, node: str | None = None, expected: int = 0) -> tuple[float, float]:
    """Run a Python program with its own cache folder; return seconds on the clock and seconds of CPU."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    if node is not None:
        environment["JSII_NODE"] = node
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def report(title: str, seconds: dict[str, list[float]], target: str) -> None:
    """Print the runs side by side."""
    print(title)
    for name, runs in seconds.items():
        shown = "  ".join(f"{one:6.2f}" for one in runs)
        print(f"  {name:38} median {_median(runs):6.2f} s   runs {shown}")
    print(f"  target: {target}")


def _median(runs: list[float]) -> float:
    ordered = sorted(runs)
    return ordered[len(ordered) // 2]


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return how many times faster the second is, by the medians."""
    return _median(slow) / _median(fast)


def _workspace(index: int, namespace: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": f"model-{index:04}"}
    if namespace is not None:
        metadata["namespace"] = namespace
    llamacpp: dict[str, Any] = {"parallel": 1 + index % 4}
    if index % 5 == 0:
        llamacpp["pod"] = {"labels": {"team": f"team-{index % 7}"}}
    return {
        "apiVersion": "kaito.sh/v1beta1" if index % 2 else "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": metadata,
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"apps": f"model-{index:04}"}},
        },
        "inference": {"preset": {"name": PRESETS[index % len(PRESETS)]}, "llamacpp": llamacpp},
    }


def _yaml(data: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_yaml(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines
