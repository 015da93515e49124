"""Whole folders as they are rendered, for reviewers: a change of any byte shows in a diff.

`pytest tests/generator/test_golden.py --update-golden` writes them anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from generator import lockfile, render

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir() if (path / "specs").is_dir())
KUBERNETES = "1.37"
CUSTOM = frozenset({"Workspace", "NodePool", "PodMonitor", "HTTPRoute", "Kustomization", "LeaderWorkerSet"})


@pytest.mark.parametrize("case", CASES)
def test_the_folder_is_rendered_as_reviewed(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out, expected = tmp_path / "rendered", GOLDEN / case / "expected"
    outcome = render.run([str(GOLDEN / case / "specs")], out)
    assert outcome.valid, outcome.notices
    if update_golden:
        shutil.rmtree(expected, ignore_errors=True)
        shutil.copytree(out, expected, ignore=shutil.ignore_patterns(lockfile.NAME))
    assert _texts(out) == _texts(expected)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/expected/*/*.yaml")), ids=lambda path: path.stem)
def test_every_reviewed_object_is_valid_for_kubernetes(path: Path) -> None:
    thing: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if thing["kind"] in CUSTOM:
        assert "/" in thing["apiVersion"]
    else:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)


def test_there_is_a_reviewed_object_of_every_kind() -> None:
    kinds = {path.stem.partition("-")[0] for path in GOLDEN.glob("*/expected/*/*.yaml")}
    assert kinds >= {
        "workspace", "serviceaccount", "configmap", "networkpolicy", "nodepool", "service", "deployment",
        "statefulset", "poddisruptionbudget", "podmonitor", "ingress", "httproute", "kustomization",
    }  # fmt: skip


def _texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != lockfile.NAME
    }
