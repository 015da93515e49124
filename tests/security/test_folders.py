"""Somebody else's repository, checked and rendered in CI: nothing outside is read, written or removed."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from serving.build import recipe, sources
from tests.serving import tiny_models

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
BERTH = Path(sys.executable).with_name("berth")


def berth(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BERTH, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pattern")
    (folder / "workspaces").mkdir()
    (folder / "workspaces" / "a.yaml").write_text((ROOT / "examples/kaito/falcon-7b.yaml").read_text())
    assert berth(folder, "render", "workspaces", "--out", "rendered").returncode == 0
    return folder


@pytest.fixture
def repository(pattern: Path, tmp_path: Path) -> Path:
    """A rendered repository beside a folder that is none of its business."""
    shutil.copytree(pattern, tmp_path / "repository", symlinks=True)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept.yaml").write_text("kind: Secret\nstringData: {password: s3cret-0123}\n")
    return tmp_path / "repository"


def kept(repository: Path) -> str:
    return (repository.parent / "victim" / "kept.yaml").read_text()


def change(repository: Path) -> None:
    """What makes the next render write every object anew."""
    spec = repository / "workspaces" / "a.yaml"
    spec.write_text(spec.read_text().replace('"falcon-7b"', '"falcon-7b-instruct"'))


@pytest.mark.slow
@pytest.mark.parametrize(
    "link",
    [
        pytest.param(
            lambda folder, victim: (folder / "e.yaml").symlink_to("/proc/self/environ"), id="environment"
        ),
        pytest.param(lambda folder, victim: (folder / "e.yaml").symlink_to(victim / "kept.yaml"), id="file"),
        pytest.param(lambda folder, victim: (folder / "more").symlink_to(victim), id="folder"),
    ],
)
def test_a_spec_that_leads_outside_is_not_read(link: Callable[[Path, Path], None], repository: Path) -> None:
    link(repository / "workspaces", repository.parent / "victim")
    done = berth(repository, "check", "workspaces", "--format", "github")
    assert done.returncode == 1
    assert "the link leads out of the folder" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
    assert "PATH=" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_link_in_the_rendered_folder_is_replaced_and_not_written_through(repository: Path) -> None:
    folder = repository / "rendered" / "workspace-falcon-7b"
    (repository.parent / "victim" / "deployment-workspace-falcon-7b.yaml").write_text("theirs")
    shutil.rmtree(folder)
    folder.symlink_to(repository.parent / "victim")
    change(repository)
    berth(repository, "render", "workspaces", "--out", "rendered")
    assert sorted(path.name for path in (repository.parent / "victim").iterdir()) == [
        "deployment-workspace-falcon-7b.yaml",
        "kept.yaml",
    ]
    assert (repository.parent / "victim" / "deployment-workspace-falcon-7b.yaml").read_text() == "theirs"


@pytest.mark.slow
def test_a_file_that_is_a_link_is_not_written_through(repository: Path) -> None:
    file = repository / "rendered" / "workspace-falcon-7b" / "deployment-workspace-falcon-7b.yaml"
    file.unlink()
    file.symlink_to(repository.parent / "victim" / "kept.yaml")
    before = kept(repository)
    change(repository)
    berth(repository, "render", "workspaces", "--out", "rendered")
    assert kept(repository) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../victim/kept.yaml", "../../victim/kept.yaml", "{victim}/kept.yaml"])
@pytest.mark.parametrize("command", [["render", "workspaces", "--out", "rendered"], ["verify", "rendered"]])
def test_a_forged_record_removes_and_shows_nothing_outside(
    name: str, command: list[str], repository: Path
) -> None:
    name = name.format(victim=repository.parent / "victim")
    file = repository / "rendered" / ".berth-rendered.json"
    record = json.loads(file.read_text())
    digest = hashlib.sha256(kept(repository).encode()).hexdigest()
    record["files"][name] = digest
    for folder in list(record["folders"].values()):
        folder["files"][name] = digest
    record["folders"][name.rpartition("/")[0]] = {
        **next(iter(record["folders"].values())), "files": {"kept.yaml": digest},
    }  # fmt: skip
    file.write_text(json.dumps(record))
    before = kept(repository)
    done = berth(repository, *command)
    assert (repository.parent / "victim" / "kept.yaml").exists(), done.stdout + done.stderr
    assert kept(repository) == before
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_weights_image_holds_plain_files_with_plain_names(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    model = tiny_models.write(tmp_path / "real.gguf", tiny_models.MEAN)
    link = tmp_path / "model.gguf"
    link.symlink_to(model)
    done = berth(tmp_path, "package", "model.gguf", "--to", "oci-dir:./image")
    assert done.returncode == 0, done.stderr
    members: list[tarfile.TarInfo] = []
    for blob in (tmp_path / "image" / "blobs" / "sha256").iterdir():
        if blob.read_bytes()[:1] != b"{":
            with tarfile.open(blob) as layer:
                members += layer.getmembers()
    assert members
    for member in members:
        assert member.isreg() or member.isdir()
        assert not member.name.startswith("/")
        assert ".." not in Path(member.name).parts
        assert (member.uid, member.gid) == (0, 0)


@pytest.mark.parametrize("path", ["../model.gguf", "a/../../model.gguf", "a\nb.gguf", "-x.gguf", "/"])
def test_no_path_in_a_weights_image_leads_out(path: str, tmp_path: Path) -> None:
    tiny_models.write(tmp_path / "model.gguf", tiny_models.MEAN)
    done = berth(tmp_path, "package", "model.gguf", "--path", path, "--to", "oci-dir:./image")
    assert done.returncode == 2, done.stdout
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize(
    "member",
    [
        pytest.param({"name": "../stolen"}, id="a parent folder"),
        pytest.param({"name": "/tmp/berth-stolen"}, id="an absolute path"),
        pytest.param({"name": "link", "type": tarfile.SYMTYPE, "linkname": "/etc"}, id="a link outside"),
        pytest.param(
            {"name": "hard", "type": tarfile.LNKTYPE, "linkname": "../../x"}, id="a hard link outside"
        ),
        pytest.param({"name": "device", "type": tarfile.CHRTYPE}, id="a device"),
    ],
)
@pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="NOT TESTED: this Python knows no tar filters"
)
def test_a_source_archive_cannot_write_elsewhere(member: dict[str, str | bytes], tmp_path: Path) -> None:
    """The archive's hash is pinned as well; this is what stands behind it."""
    archive = tmp_path / recipe.SDIST
    with tarfile.open(archive, "w:gz") as stream:
        entry = tarfile.TarInfo()
        for name, value in member.items():
            setattr(entry, name, value)
        stream.addfile(entry, io.BytesIO(b""))
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(work / "source")}
    # An absolute name is made relative by the filter; then the archive fails for what it lacks.
    with pytest.raises((tarfile.FilterError, OSError)):
        sources.unpack(work, archive)
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(work / "source")}
    assert after == before
    assert not Path("/tmp/berth-stolen").exists()
