"""Images of models: the same bytes every time, readable by other programs, and honest about their content."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from berth import catalog
from berth.errors import BerthError, InvalidGguf, UnknownModel
from berth.plans import Weights
from generator import packaging
from generator.charts import weights as supplies
from generator.commands import package as command
from generator.packaging import images, subjects
from generator.packaging.errors import PackagingError
from tests.generator.packaging.conftest import Silent, extracted, split

if TYPE_CHECKING:
    from collections.abc import Callable


def pack(file: Path, to: str, **options: Any) -> packaging.Packed:
    return packaging.package(file, to, Silent(), **options)


def test_skopeo_reads_the_layout_and_gets_the_file_back(
    gguf: Callable[..., Path], skopeo: Callable[..., str], tmp_path: Path
) -> None:
    file = gguf()
    packed = pack(file, f"oci-dir:{tmp_path}/image:q8")
    skopeo("copy", f"oci:{tmp_path}/image:q8", f"dir:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    found = extracted(tmp_path / "out" / layer["digest"].removeprefix("sha256:"))
    assert found == {"tiny.Q8_0.gguf": file.read_bytes()}
    assert packed.reference == f"oci:{tmp_path}/image:q8@{packed.image.root.digest}"


def test_both_platforms_have_the_same_layer(
    gguf: Callable[..., Path], skopeo: Callable[..., str], tmp_path: Path
) -> None:
    pack(gguf(), f"oci-dir:{tmp_path}/image")
    layers = []
    for architecture in ("amd64", "arm64"):
        text = skopeo("--override-arch", architecture, "inspect", f"oci:{tmp_path}/image:latest")
        found = json.loads(text)
        assert (found["Os"], found["Architecture"]) == ("linux", architecture)
        layers.append(found["Layers"])
    assert layers[0] == layers[1]


def test_an_image_is_the_same_wherever_and_whenever_it_is_made(
    gguf: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(gguf("a/tiny.Q8_0.gguf"), f"oci-dir:{tmp_path}/one")
    other = gguf("b/tiny.Q8_0.gguf")
    os.utime(other, (1, 1))
    other.chmod(0o600)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = pack(other, f"oci-dir:{tmp_path}/two")
    assert first.image.root == second.image.root
    assert {path.name for path in (tmp_path / "one").rglob("*")} == {
        path.name for path in (tmp_path / "two").rglob("*")
    }
    assert (tmp_path / "one/index.json").read_bytes() == (tmp_path / "two/index.json").read_bytes()


def test_its_digest_stays_from_one_release_to_the_next(gguf: Callable[..., Path], tmp_path: Path) -> None:
    """A change here makes every user push and pull every model again; it has to be meant."""
    packed = pack(gguf(), f"oci-dir:{tmp_path}/image")
    assert packed.image.root.digest == (
        "sha256:981328cabc23598fde7e0a9659c4d3edd6bdf09c14705ac71ab1186756d1d8e3"
    )


def test_a_second_image_shares_the_layout(gguf: Callable[..., Path], tmp_path: Path) -> None:
    one, two = gguf("one.gguf"), gguf("two.gguf", seed=1)
    for file in (one, two, one):
        pack(file, f"oci-dir:{tmp_path}/images:{file.stem}")
    index = json.loads((tmp_path / "images/index.json").read_text())
    tags = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
    assert tags == ["one", "two"]


def test_a_folder_of_something_else_is_left_alone(gguf: Callable[..., Path], tmp_path: Path) -> None:
    file = gguf()
    with pytest.raises(PackagingError, match="is no OCI layout and not empty"):
        pack(file, f"oci-dir:{tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_labels_tell_what_the_header_tells(gguf: Callable[..., Path], tmp_path: Path) -> None:
    file = gguf()
    packed = pack(file, f"oci-dir:{tmp_path}/image")
    known = packed.to_json()["labels"]
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert known == {
        "org.opencontainers.image.title": "Tiny Model",
        "org.opencontainers.image.description": "Q8_0 weights of Tiny Model as GGUF, for llama.cpp",
        "org.opencontainers.image.version": "Q8_0",
        "org.opencontainers.image.licenses": "apache-2.0",
        "org.opencontainers.image.source": "https://example.com/tiny",
        "berth.dev/architecture": "llama",
        "berth.dev/file": "tiny.Q8_0.gguf",
        "berth.dev/sha256": sha256,
        "berth.dev/files": json.dumps(
            [{"file": "tiny.Q8_0.gguf", "size": file.stat().st_size, "sha256": sha256}],
            separators=(",", ":"),
        ),
    }
    assert json.loads(packed.image.configs[0].data)["config"]["Labels"] == known
    assert json.loads(packed.image.root.data)["annotations"] == known


def test_a_split_model_has_a_layer_a_file(
    gguf: Callable[..., Path], skopeo: Callable[..., str], tmp_path: Path
) -> None:
    parts = split(gguf, "parts", 3)
    pack(parts[0], f"oci-dir:{tmp_path}/image")
    skopeo("copy", f"oci:{tmp_path}/image:latest", f"dir:{tmp_path}/out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    found = [
        extracted(tmp_path / "out" / layer["digest"].removeprefix("sha256:")) for layer in manifest["layers"]
    ]
    assert found == [{part.name: part.read_bytes()} for part in parts]


def test_a_missing_part_is_told(gguf: Callable[..., Path], tmp_path: Path) -> None:
    parts = split(gguf, "parts", 2)
    parts[1].unlink()
    with pytest.raises(FileNotFoundError) as missing:
        pack(parts[0], f"oci-dir:{tmp_path}/image")
    assert missing.value.filename == str(parts[1])
    assert not (tmp_path / "image").exists()


def test_a_preset_puts_the_file_where_its_workspaces_look(gguf: Callable[..., Path], tmp_path: Path) -> None:
    model = next(
        model
        for model in catalog.load().models
        if "/" in (file := model.quantizations[model.default_quantization]).file and file.sha256 is None
    )
    published = model.quantizations[model.default_quantization]
    count = len(supplies.files(Weights(image="i", file=published.file, size=0)))
    parts = split(gguf, "mine", count, stem="mine")
    packed = pack(
        parts[0], f"oci-dir:{tmp_path}/image", preset=model.name, quantization=model.default_quantization
    )
    in_pod = [f"/models/{layer.part.path}" for layer in packed.image.layers]
    assert in_pod[0] == supplies.path(Weights(image="i", file=published.file, size=0))
    assert len(in_pod) == count
    known = packed.to_json()["labels"]
    assert known["org.opencontainers.image.licenses"] == model.license
    assert known["org.opencontainers.image.source"] == f"https://huggingface.co/{published.repository}"
    first = packed.image.layers[0]
    with tarfile.open(fileobj=io.BytesIO(first.read(0, len(first.head)) + bytes(first.part.size))) as archive:
        folder = archive.next()
        assert folder is not None
        assert (folder.name, folder.type, folder.mode) == (
            str(Path(published.file).parent),
            tarfile.DIRTYPE,
            0o755,
        )


def pinned() -> tuple[str, str, str]:
    """A preset, a quantization and a file name for which the catalogue knows a sha256."""
    return next(
        (model.name, quantization, file.file)
        for model in catalog.load().models
        for quantization, file in model.quantizations.items()
        if file.sha256 is not None and "-of-" not in file.file
    )


def test_a_file_that_only_has_a_presets_name_is_not_called_that_preset(
    gguf: Callable[..., Path], tmp_path: Path
) -> None:
    _, _, name = pinned()
    file = gguf(Path(name).name)
    assert subjects.read(file).preset is not None
    packed = pack(file, f"oci-dir:{tmp_path}/image")
    assert "berth.dev/preset" not in packed.to_json()["labels"]
    assert packed.subject.title == "Tiny Model"


def test_a_preset_that_was_named_has_to_be_that_file(gguf: Callable[..., Path], tmp_path: Path) -> None:
    preset, quantization, _ = pinned()
    with pytest.raises(BerthError, match=f"is not {preset}'s {quantization}: its sha256 is"):
        pack(gguf(), f"oci-dir:{tmp_path}/image", preset=preset, quantization=quantization)
    assert not (tmp_path / "image").exists()


def test_an_unknown_preset_is_told_before_anything_is_read(gguf: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        pack(gguf(), f"oci-dir:{tmp_path}/image", preset="no-such-model")


def test_what_is_no_gguf_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"<html>" * 100)
    with pytest.raises(InvalidGguf, match=str(file)):
        pack(file, f"oci-dir:{tmp_path}/image")


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("image", "is neither oci-dir:PATH"),
        ("oci-dir:", "is neither oci-dir:PATH"),
        ("docker://registry.example.com/name", "has no tag; write for example registry.example.com/name:q4"),
        ("docker://registry.example.com/Name:1", "is no image reference"),
    ],
    ids=["no kind", "no path", "no tag", "capitals"],
)
def test_a_place_that_takes_nothing_is_told_before_anything_is_read(
    tmp_path: Path, to: str, words: str
) -> None:
    with pytest.raises(PackagingError, match=words):
        pack(tmp_path / "missing.gguf", to)


def test_a_file_that_changes_meanwhile_makes_no_image(gguf: Callable[..., Path], tmp_path: Path) -> None:
    file = gguf()

    class Meddling(Silent):
        def begin(self, what: str, size: int) -> None:
            super().begin(what, size)
            if self.last == "writing":
                with file.open("r+b") as stream:
                    stream.seek(-1, os.SEEK_END)
                    stream.write(b"!")

    with pytest.raises(PackagingError, match="changed while it was packaged"):
        packaging.package(file, f"oci-dir:{tmp_path}/image", Meddling())
    assert list((tmp_path / "image/blobs/sha256").iterdir()) == []


def test_progress_comes_to_all_of_it(gguf: Callable[..., Path], tmp_path: Path) -> None:
    progress = Silent()
    packaging.package(gguf(), f"oci-dir:{tmp_path}/image", progress)
    done, size = progress.told["reading"]
    assert done == size > 0
    done, size = progress.told["writing"]
    assert done >= size > 0


@pytest.mark.parametrize("size", [1, 511, 512, 513, 8 * 2**30, 400 * 2**30], ids="{} bytes".format)
def test_a_layer_of_any_size_is_a_tar_archive(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as stream:
        stream.truncate(size)
    part = subjects.Part(path, "a/b/m.gguf", size)
    layer = images.Layer(part, images._head(part), b"", "", "")
    with tarfile.open(fileobj=io.BytesIO(layer.read(0, len(layer.head)))) as archive:
        found = [archive.next() for _ in range(3)]
    assert [(member.name, member.size) for member in found if member] == [
        ("a", 0),
        ("a/b", 0),
        ("a/b/m.gguf", size),
    ]
    assert {(member.uid, member.gid, member.mtime, member.uname) for member in found if member} == {
        (0, 0, 0, "")
    }


@pytest.mark.parametrize("step", [1, 100, 512, 513, 100_000], ids="{} bytes at once".format)
def test_a_layer_reads_the_same_in_pieces(gguf: Callable[..., Path], step: int) -> None:
    file = gguf(rows=1)
    part = subjects.Part(file, file.name, file.stat().st_size)
    layer = images.layer(part, lambda _: None)
    data, offset = b"", 0
    while piece := layer.read(offset, step):
        data += piece
        offset += len(piece)
    assert len(data) == layer.size
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.digest


def test_the_command_prints_the_reference_and_talks_to_stderr(
    gguf: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()
    app.command()(command.command)
    file = gguf()
    app([str(file), "--to", f"oci-dir:{tmp_path}/image"], standalone_mode=False)
    said = capsys.readouterr()
    assert said.out.startswith(f"oci:{tmp_path}/image:latest@sha256:")
    assert said.out.count("\n") == 1
    assert "Tiny Model: no preset of the catalogue, licence apache-2.0" in said.err
    app([str(file), "--to", f"oci-dir:{tmp_path}/image", "--format", "json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"reference", "digest", "preset", "file", "files", "labels"}


def test_what_to_write_for_an_adapter_is_told_with_its_size(
    gguf: Callable[..., Path], tmp_path: Path
) -> None:
    file = gguf("sql.gguf", **{"general.type": "adapter", "adapter.type": "lora"})
    packed = pack(file, f"oci-dir:{tmp_path / 'image'}")
    usage = command._usage(replace(packed, reference="registry.example.com/sql@sha256:0"))
    assert "- source: {name: NAME, image: registry.example.com/sql@sha256:0}" in usage
    assert f"- {{name: NAME, file: sql.gguf, size: {file.stat().st_size}}}" in usage
