"""`berth verify` finds every edit by hand, also one that mends the record."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from generator import lockfile, render, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata: {name: falcon}
resource: {instanceType: Standard_NC24ads_A100_v4, labelSelector: {matchLabels: {apps: falcon}}}
inference: {preset: {name: falcon-7b}}
"""


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "falcon.yaml").write_text(SPEC)
    (tmp_path / "specs" / "berth.yaml").write_text("gitops: argocd\npod: {labels: {team: chat}}\n")
    render.run([str(tmp_path / "specs")], tmp_path / "rendered")
    return tmp_path / "rendered"


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(rendered: Path) -> None:
        path = rendered / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda rendered: (rendered / name).unlink()


def with_record_mended(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """The edit of somebody who knows the record and writes the new digests into it."""

    def both(rendered: Path) -> None:
        change(rendered)
        path = rendered / lockfile.NAME
        data = json.loads(path.read_text())
        for folder, one in data["folders"].items():
            for name in list(one["files"]):
                file = rendered / folder / name
                if file.is_file():
                    one["files"][name] = lockfile.sha256(file.read_bytes())
                else:
                    del one["files"][name]
        path.write_text(json.dumps(data))

    return both


DEPLOYMENT, WORKSPACE = "falcon/deployment-falcon.yaml", "falcon/workspace-falcon.yaml"
POLICY = "falcon/networkpolicy-falcon.yaml"
EDITS = {
    "a field of a workload": (
        replaced(DEPLOYMENT, "replicas: 1", "replicas: 2"),
        r"deployment-falcon\.yaml: spec\.replicas is 2, rendered as 1",
    ),
    "a field, with the record mended": (
        with_record_mended(replaced(DEPLOYMENT, "replicas: 1", "replicas: 2")),
        r"deployment-falcon\.yaml: spec\.replicas is 2, rendered as 1",
    ),
    "a field that was added": (
        replaced(DEPLOYMENT, "spec:\n  progress", "spec:\n  paused: true\n  progress"),
        r"deployment-falcon\.yaml: spec\.paused was added",
    ),
    "a comment": (
        replaced(DEPLOYMENT, "kind: Deployment", "kind: Deployment  # mine"),
        r"deployment-falcon\.yaml: edited by hand, with the same meaning",
    ),
    "a file that is gone": (
        removed(POLICY),
        r"networkpolicy-falcon\.yaml: missing",
    ),
    "a file that is gone from the record too": (
        with_record_mended(removed(POLICY)),
        r"networkpolicy-falcon\.yaml: missing",
    ),
    "an object that is not applied": (
        with_record_mended(replaced("falcon/kustomization.yaml", "  - networkpolicy-falcon.yaml\n", "")),
        r"falcon/kustomization\.yaml: edited by hand",
    ),
    "the root's list": (
        replaced("kustomization.yaml", "  - falcon\n", "  - falcon\n  - other\n"),
        r"rendered/kustomization\.yaml: edited by hand",
    ),
    "the spec": (
        with_record_mended(replaced(WORKSPACE, "Standard_NC24ads_A100_v4\n", "Standard_NC48ads_A100_v4\n")),
        r"falcon: the spec was changed after it was planned",
    ),
    "the plan": (
        with_record_mended(replaced(WORKSPACE, '"parallel":4', '"parallel":1')),
        r"falcon: the plan is not the one that berth makes of this spec",
    ),
    "another's plan": (
        with_record_mended(replaced(WORKSPACE, '"name":"falcon"', '"name":"other"')),
        r"falcon: the plan is other's, and the Workspace is falcon",
    ),
    "no plan": (
        with_record_mended(replaced(WORKSPACE, "berth.dev/plan", "example.com/plan")),
        r"holds no plan that this berth can read",
    ),
    "no YAML": (replaced(WORKSPACE, "kind: Workspace", "kind: ["), r"no Workspace that can be read"),
    "the fleet settings in the record": (
        replaced(lockfile.NAME, '"team": "chat"', '"team": "mine"'),
        r"the plan was made for another fleet file",
    ),
}


def test_a_fresh_render_is_fine(rendered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.command_line(rendered) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("edit", "finding"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_is_found(
    rendered: Path,
    edit: Callable[[Path], None],
    finding: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(rendered)
    assert verify.command_line(rendered) == 1
    told = capsys.readouterr().out
    assert re.search(finding, told), told


def test_files_of_others_are_no_edit(rendered: Path) -> None:
    (rendered / "falcon" / "notes.md").write_text("mine")
    assert list(verify.verify(rendered)) == []


def test_a_folder_that_was_not_rendered_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(verify.NotRenderedError, match="did not write it"):
        verify.command_line(tmp_path)
