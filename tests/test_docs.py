"""The reference is complete and fresh; what pages show is run by `tests/pages`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from berth import catalog as catalogs
from berth import fleet as fleets
from generator import cli

ROOT = Path(__file__).resolve().parents[1]


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
