"""What the pages show is what the commands do."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from berth import catalog as catalogs
from berth import fleet as fleets
from generator import cli

ROOT = Path(__file__).resolve().parents[1]
BERTH = Path(sys.executable).with_name("berth")
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLE_PAGES = sorted((ROOT / "examples").rglob("*.md"))
README = (ROOT / "README.md").read_text()


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    return subprocess.run(
        [BERTH, *arguments], cwd=folder, env=plain, capture_output=True, text=True, check=False
    )


def words(text: str) -> str:
    """The text without its line breaks, which the pages set by width."""
    return " ".join(text.split())


@pytest.fixture
def readme_folder(tmp_path: Path) -> Path:
    (match,) = re.findall(r"<!-- workspace -->\n```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "workspace.yaml").write_text(match)
    (tmp_path / "big.yaml").write_text(match.replace('"falcon-7b"', '"llama-2-70b"'))
    return tmp_path


@pytest.mark.parametrize("command", re.findall(r"<!-- output: (.*?) -->", README))
def test_the_readme_shows_what_the_command_prints(command: str, readme_folder: Path) -> None:
    shown = re.search(
        rf"<!-- output: {re.escape(command)} -->\n```console\n\$ .*?\n(.*?)```", README, re.DOTALL
    )
    assert shown is not None
    assert words(shown[1]) == words(run(shlex.split(command), readme_folder).stdout)


def test_getting_started_runs_from_top_to_bottom(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "getting-started.md").read_text()
    folder, commands = tmp_path, 0
    for line in "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines():
        words_of_line = shlex.split(line.partition(" #")[0])
        if not words_of_line:
            continue
        if words_of_line[0] == "cd":
            folder = folder / words_of_line[1]
            subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
            continue
        if "--since" in words_of_line:
            identity = [
                "-c",
                "user.name=test",
                "-c",
                "user.email=test@example.com",
                "-c",
                "commit.gpgsign=false",
            ]
            subprocess.run(["git", "add", "."], cwd=folder, check=True)
            subprocess.run(["git", *identity, "commit", "--quiet", "-m", "first"], cwd=folder, check=True)
        done = run(words_of_line[1:], folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        commands += 1
    assert commands >= 8


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLE_PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("https://", "http://")):
            assert (page.parent / target).exists(), f"{target} in {page.relative_to(ROOT)}"


FLEET_EXAMPLES = [
    pytest.param(block, id=f"{page.name} {number}")
    for page in sorted((ROOT / "docs" / "guides").glob("*.md"))
    for number, block in enumerate(
        re.findall(r"^( *)```yaml\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("block", FLEET_EXAMPLES)
def test_every_fleet_file_of_the_guides_is_right(block: tuple[str, str]) -> None:
    document = yaml.safe_load(textwrap.dedent(block[1]))
    fleet, problems = fleets.read(document)
    assert problems == []
    assert fleet is not None
    catalog = catalogs.load().extended(fleet.models, fleet.instance_types, fleet.prices)
    for entry in fleet.models:
        assert catalog.model(entry["name"]).layout()


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for command in cli.app.registered_commands:
        assert f"## berth {command.name}\n" in page


def test_every_preset_and_instance_type_is_in_the_reference() -> None:
    catalog = catalogs.load()
    presets = (ROOT / "docs" / "reference" / "presets.md").read_text()
    types = (ROOT / "docs" / "reference" / "instance-types.md").read_text()
    assert [name for name in catalog.model_names if f"`{name}`" not in presets] == []
    assert [name for name in catalog.instance_types if name not in types] == []


def test_every_setting_of_the_fleet_file_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "fleet.md").read_text()
    names = [field.alias or name for name, field in fleets.Fleet.model_fields.items()]
    assert [name for name in names if name not in page] == []


def test_the_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.docs", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
