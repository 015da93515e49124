"""Every page works as it is written: its commands from top to bottom, its YAML, its links."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from generator import cli
from tests.pages import blocks, judging, shell
from tests.pages.blocks import PAGES, ROOT
from tests.serving import tiny_models

if TYPE_CHECKING:
    from pathlib import Path

MAKE = f"PYTHONPATH={ROOT} {sys.executable} -m tests.pages.model"
PREPARED = {
    "docs/reference/cli.md": f"""
        git init --quiet -b main; mkdir models manifests
        for file in falcon.yaml models/falcon.yaml manifests/falcon.yaml; do
          cp {ROOT}/examples/fleet/workspaces/workspace-falcon-7b.yaml $file
        done
        git add .; git commit --quiet -m first; git update-ref refs/remotes/origin/main HEAD
        echo 'cloud: azure' > berth.yaml
        for number in 1 2 3; do cp model.gguf model-0000$number-of-00003.gguf; done
        {MAKE} model.gguf""",
    "docs/guides/images.md": f"{MAKE} --projector mmproj.gguf",
    "docs/guides/add-a-model.md": f"{MAKE} model.gguf",
    "docs/guides/from-kaito.md": f"cp -r {ROOT}/examples/kaito manifests",
}
"""What stands there before a page that cannot say it itself."""

pages = pytest.mark.parametrize("page", PAGES, ids=blocks.name)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pages
def test_what_a_page_shows_works_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    terminal = shell.Shell(tmp_path)
    if page.is_relative_to(ROOT / "examples"):
        shutil.copytree(page.parent, tmp_path, dirs_exist_ok=True)
    tiny_models.write(tmp_path / "model.gguf", tiny_models.MEAN)
    if script := PREPARED.get(blocks.name(page)):
        terminal.bash(script)
    for block in blocks.blocks(page):
        if page.parent.name == "reference":
            terminal.folder = tmp_path  # each of its examples stands alone
        if "before" in block.marks:
            terminal.bash(block.marks["before"])
        if block.language == "yaml":
            found = judging.problems(block.text, terminal.folder)
            if "refused" in block.marks:
                assert block.marks["refused"] in " ".join(found)
                found = []
            terminal.wrong += [f"line {block.line}: {problem}" for problem in found]
            if block.title is not None:
                file = terminal.folder / block.title
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text)
        for command in blocks.commands(block):
            terminal.run(command)
    assert not terminal.wrong, "\n\n".join(terminal.wrong)


@pages
def test_every_block_says_what_it_is(page: Path) -> None:
    assert [
        f"line {block.line}: {block.language!r}"
        for block in blocks.blocks(page)
        if block.language not in blocks.LANGUAGES
    ] == []


@pages
def test_no_command_hides_in_an_indented_block(page: Path) -> None:
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    commands = "|".join(command.name or "" for command in cli.app.registered_commands)
    lines = rf"(?:berth (?:{commands})|kubectl (?:{'|'.join(shell.KUBECTL)})|python -m|curl -|git [a-z]+ ).*"
    assert re.findall(rf"(?<=\n\n) {{4,}}{lines}", text) == []


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        found = page.parent / target if target else page
        assert found.exists(), f"{target} in {blocks.name(page)}"
        if anchor and found.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in [_anchor(title) for title in titles], f"{target}#{anchor} in {blocks.name(page)}"


@pages
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`(tests/[\w/.]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{name} in {blocks.name(page)}"


def test_the_tests_see_through_a_page_that_lies(tmp_path: Path) -> None:
    page = ROOT / "docs" / "lies.md"
    text = (
        '```yaml title="w.yaml"\nkind: Workspace\napiVersion: kaito.sh/v1beta1\nmetadata: {name: a}\n```\n'
        "```console\n$ berth presets falcon-7b --format xml\n$ berth --version\nberth 99\n"
        "$ kubectl aply -f w.yaml\n"
        "$ kubectl apply -f none.yaml\n$ make sandwich\n$ python -m serving --modle x\n$ unheard-of\n```\n"
    )
    terminal = shell.Shell(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(text)
    (judged, lines) = blocks.blocks(page)
    assert len(judging.problems(judged.text, tmp_path)) == 1
    for command in blocks.commands(lines):
        terminal.run(command)
    assert len(terminal.wrong) == 7


def _anchor(title: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower())
    return re.sub(r" +", "-", plain.strip())
