"""The command lines that `berth render` writes are the ones that these programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from serving import settings
from serving.weights import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
FOLDERS = (ROOT / "manifests" / "examples", ROOT / "tests" / "golden")


def rendered(program: list[str]) -> Iterator[list[str]]:
    """The arguments of every rendered container that runs this program."""
    for path in (path for folder in FOLDERS for path in folder.rglob("*.yaml")):
        for document in yaml.load_all(path.read_text("utf-8"), Loader=yaml.CSafeLoader):
            if not isinstance(document, dict) or document.get("kind") not in ("Deployment", "StatefulSet"):
                continue
            pod = document["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", []), *pod["containers"]):
                # Where a pod names no command, its image's own begins the line.
                line = container.get("command", ["python", "-m", "serving"]) + container.get("args", [])
                if line[: len(program)] == program:
                    yield line[len(program) :]


def test_every_download_is_understood() -> None:
    found = [commands.parse_fetch(arguments) for arguments in rendered(["python", "-m", "serving", "fetch"])]
    assert found
    for given in found:
        assert given.to == Path("/models")
        assert given.repository.count("/") == 1
        assert given.size > 0
    assert [(given.mmproj, len(given.mmproj_sha256)) for given in found if given.mmproj] == [
        ("mmproj-model-f16.gguf", 64)
    ]


def test_the_front_is_told_of_every_file_that_the_engine_loads() -> None:
    seen = set()
    for arguments in rendered(["python", "-m", "serving", "--host"]):
        at = arguments.index("--")
        own, engine = settings.parser().parse_args(["--host", *arguments[:at]]), arguments[at + 1 :]
        assert str(own.model) == engine[engine.index("--model") + 1]
        loaded = [engine[engine.index("--mmproj") + 1]] if "--mmproj" in engine else []
        assert [str(own.mmproj.path)] == loaded if own.mmproj else not loaded
        adapters = engine[engine.index("--lora-scaled") + 1] if "--lora-scaled" in engine else ""
        assert [str(one.path) for one in own.adapter] == [
            one.rpartition(":")[0] for one in adapters.split(",") if one
        ]
        seen |= {bool(loaded), bool(adapters) and "adapters"}
    assert seen == {True, False, "adapters"}


def test_every_check_of_a_volume_is_understood() -> None:
    found = [
        commands.parse_verify(arguments) for arguments in rendered(["python", "-m", "serving", "verify"])
    ]
    assert [(given.model, given.sha256) for given in found] == [
        (Path("/models/phi-4/phi-4-Q8_0.gguf"), "0123456789abcdef" * 4)
    ]


def test_the_copy_program_is_put_where_it_is_run() -> None:
    places = list(rendered(["python", "-m", "serving", "tools"]))
    copies = list(rendered(["/berth/copy"]))
    assert places == [["--to", "/berth/copy"]] * len(places)
    assert 0 < len(places) <= len(copies)  # a projector of another folder is copied by a container of its own
    for option, folder, *sources in copies:
        assert (option, folder.split("/")[1]) == ("--to", "berth-weights")
        assert all(source.startswith("/") and source.endswith(".gguf") for source in sources)
    assert copies


@pytest.mark.parametrize(
    "arguments",
    [["--size", "x"], ["--sha256", "123"], ["--sha256", "0" * 64, "--sha256", "0" * 64]],
    ids=["a size that is no number", "a sha256 that is too short", "more sha256 than files"],
)
def test_wrong_arguments_end_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    whole = ["--repository", "a/b", "--file", "m.gguf", "--size", "1", "--to", "/models", *arguments]
    with pytest.raises(SystemExit) as end:
        commands.parse_fetch(whole)
    assert end.value.code == 2
    assert "usage: python -m serving fetch" in capsys.readouterr().err
