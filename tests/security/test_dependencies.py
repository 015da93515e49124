"""What is installed is what was locked: every package with its hash, in development and in the images."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/requirements.txt"))
LISTS = ["requirements.lock", *(f"{room}/requirements.txt" for room in ROOMS)]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


def entries(name: str) -> dict[str, tuple[Version, int]]:
    """Package, version and number of hashes of each entry; anything else in a list is an error."""
    text = re.sub(r"^\s*#.*$", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    found: dict[str, tuple[Version, int]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        line, *rest = [part.strip().rstrip("\\").strip() for part in entry.splitlines() if part.strip()]
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert (pin.operator, requirement.url) == ("==", None), line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", part) for part in rest), line
        found[canonicalize_name(requirement.name)] = (Version(pin.version), len(rest))
    return found


@pytest.mark.parametrize("name", LISTS)
def test_every_package_has_one_version_and_its_hashes(name: str) -> None:
    found = entries(name)
    assert len(found) > 15
    assert [package for package, (_, hashes) in found.items() if hashes == 0] == []


def test_the_lock_holds_all_that_the_project_asks_for() -> None:
    locked = entries("requirements.lock")
    asked = [
        *PROJECT["dependencies"],
        *(one for more in PROJECT["optional-dependencies"].values() for one in more),
    ]
    for requirement in map(Requirement, asked):
        if requirement.name == PROJECT["name"]:
            continue
        version, _ = locked[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, f"{requirement} and {version}: run `make lock`"


@pytest.mark.parametrize("room", ROOMS)
def test_an_image_list_holds_all_that_the_room_asks_for(room: str) -> None:
    locked = entries(f"{room}/requirements.txt")
    for line in (ROOT / room / "requirements.in").read_text().splitlines():
        if line and not line.startswith("#"):
            assert canonicalize_name(Requirement(line).name) in locked, f"{line}: run `make lock`"


@pytest.mark.parametrize("room", ROOMS)
def test_an_image_installs_nothing_without_its_hash(room: str) -> None:
    text = (ROOT / room / "Dockerfile").read_text().replace("\\\n", " ")
    installs = [line for line in text.splitlines() if "pip install" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line
        assert "--only-binary :all:" in line


def test_webhook_and_watcher_are_built_alike() -> None:
    """A Dockerfile includes no other, so what is mended in one has to be mended in both."""
    own = re.compile(r"^(# The .* image\.|.*image\.description=.*|EXPOSE .*)$", re.MULTILINE)
    webhook, watcher = (
        own.sub("", (ROOT / room / "Dockerfile").read_text()).replace(room, "ROOM")
        for room in ("webhook", "watcher")
    )
    assert webhook == watcher


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_more_rights_than_it_says(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text())
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        for step in job["steps"]:
            # What others write (titles, branches) must not become part of a script.
            assert "${{ github.event" not in step.get("run", "")
            assert "${{ github.head_ref" not in step.get("run", "")


def test_workflows_stand_a_security_audit_also_the_one_that_a_fleet_gets() -> None:
    places = [ROOT / ".github", ROOT / "generator/data/fleet/.github"]
    command: list[str | Path] = [Path(sys.executable).with_name("zizmor"), "--offline", *places]
    audit = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "No findings to report" in audit.stdout + audit.stderr


def test_every_list_is_audited() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/audit.yaml").read_text())["jobs"]["audit"]
    assert sorted(job["strategy"]["matrix"]["list"]) == sorted(LISTS)
