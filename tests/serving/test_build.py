"""The engine's recipe: what names a build, when it is made again, and what packing makes of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from serving.build import __main__ as command
from serving.build import packing, recipe, sbom, sources
from serving.build.recipe import VARIANTS, Variant

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Engine

CPU = VARIANTS["cpu"]


def test_equal_recipes_have_equal_digests_and_others_have_not() -> None:
    assert CPU.digest == Variant("cpu").digest
    assert len({variant.digest for variant in VARIANTS.values()}) == 3
    assert replace(CPU, more={"GGML_LTO": "ON"}).digest != CPU.digest
    cuda = VARIANTS["cuda13"]
    assert replace(cuda, architectures=("80-real",)).digest != cuda.digest


@pytest.mark.parametrize(
    "variant", VARIANTS.values(), ids=lambda variant: f"{variant.name} runs on every CPU"
)
def test_no_build_is_tuned_to_the_machine_that_made_it(variant: Variant) -> None:
    options = variant.options
    assert options["GGML_NATIVE"] == "OFF"
    assert options["GGML_CPU_ALL_VARIANTS"] == options["GGML_BACKEND_DL"] == "ON"
    assert options["GGML_RPC"] == "ON"
    assert "LLAVA_BUILD" not in options


@pytest.mark.parametrize(
    ("variant", "capabilities"),
    [
        pytest.param("cuda12", range(70, 91), id="CUDA 12 serves V100 to H100"),
        pytest.param("cuda13", range(75, 122), id="CUDA 13 serves T4 to Blackwell"),
    ],
)
def test_every_planned_gpu_has_code(variant: str, capabilities: range) -> None:
    """The catalogue's compute capabilities, by the variant that the planner picks for them."""
    from berth import catalog

    compiled = [one.removesuffix("-real") for one in VARIANTS[variant].architectures]
    found = 0
    for instance in catalog.load().instance_types.values():
        wanted = round(instance.compute_capability * 10)
        picked = "cuda12" if wanted < 75 else "cuda13"
        if picked == variant and wanted >= 70:
            found += 1
            assert wanted in capabilities
            # machine code serves its own generation, within which newer revisions run older code
            assert any(int(one) // 10 == wanted // 10 and int(one) <= wanted for one in compiled), (
                instance.name
            )
    assert found


def test_a_folder_is_current_only_with_the_same_recipe_and_all_programs(tmp_path: Path) -> None:
    assert not command.is_current(tmp_path, CPU)
    (tmp_path / "recipe.json").write_text("{")
    assert not command.is_current(tmp_path, CPU)
    (tmp_path / "recipe.json").write_text(
        json.dumps({"digest": CPU.digest, "programs": list(recipe.PROGRAMS)})
    )
    assert not command.is_current(tmp_path, CPU)
    (tmp_path / "bin").mkdir()
    for name in recipe.PROGRAMS:
        (tmp_path / "bin" / name).touch(0o755)
    assert command.is_current(tmp_path, CPU)
    assert not command.is_current(tmp_path, VARIANTS["cuda13"])


def test_an_sdist_with_another_hash_is_removed_and_never_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / recipe.SDIST
    archive.write_bytes(b"something else")
    with pytest.raises(sources.BuildFailed, match="not the pinned"):
        sources.sdist(tmp_path, tmp_path)
    assert not archive.exists()


def test_a_build_that_is_there_is_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "is_current", lambda *_: True)
    assert command.main(["--out", str(tmp_path / "engine")]) == 0
    assert "up to date" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """What a compiler leaves: programs, libraries under three names each, and backends."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in recipe.PROGRAMS:
        (folder / name).touch(0o755)
    for name in ("libllama", "libggml"):
        (folder / f"{name}.so.0.1.2").write_text(name)
        (folder / f"{name}.so.0").symlink_to(f"{name}.so.0.1.2")
        (folder / f"{name}.so").symlink_to(f"{name}.so.0")
    (folder / "libllama-server-impl.so").write_text("impl")
    for name in ("libggml-rpc", "libggml-cpu-haswell"):
        (folder / f"{name}.so").write_text(name)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The parts of the sdist that packing reads."""
    folder = tmp_path / "source"
    files = {
        "LICENSE.md": "MIT",
        "llama_cpp/__init__.py": "",
        "llama_cpp/_ctypes_extensions.py": 'base_path / f"lib{lib_base_name}.so",\n',
        "llama_cpp/_ggml.py": "libggml_base_path = 1\n",
        "vendor/llama.cpp/LICENSE": "MIT",
        "vendor/llama.cpp/licenses/LICENSE-jsonhpp": "MIT",
        "vendor/llama.cpp/vendor/cpp-httplib/LICENSE": "MIT",
        "vendor/llama.cpp/vendor/cpp-httplib/httplib.h": '#define CPPHTTPLIB_VERSION "0.58.0"\n',
        "vendor/llama.cpp/vendor/nlohmann/json.hpp": "// version 3.12.0\n",
        "vendor/llama.cpp/vendor/miniaudio/miniaudio.h": "miniaudio - v0.11.24\n",
        "vendor/llama.cpp/vendor/stb/stb_image.h": "no version here\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_every_library_lies_once_and_backends_lie_beside_the_programs(
    built: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_check", lambda *_: None)
    target = tmp_path / "engine"
    packing.assemble(built, source, CPU, target, bundle_cuda=False)
    real = {path.name for path in (target / "lib").iterdir() if not path.is_symlink()}
    assert real == {
        "libllama.so.0", "libggml.so.0", "libllama-server-impl.so", "libggml-rpc.so",
        "libggml-cpu-haswell.so",
    }  # fmt: skip
    assert (target / "lib" / "libllama.so").readlink().name == "libllama.so.0"
    assert (target / "bin" / "libggml-cpu-haswell.so").read_text() == "libggml-cpu-haswell"
    assert (target / "python" / "llama_cpp" / "lib" / "libllama.so.0").read_text() == "libllama"
    told = json.loads((target / "sbom.cdx.json").read_text())
    digest = hashlib.sha256(b"libllama").hexdigest()
    assert {
        "type": "file",
        "name": "lib/libllama.so.0",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    } in told["components"]
    versions = {part["name"]: part.get("version") for part in told["components"]}
    assert versions["cpp-httplib"] == "0.58.0"
    assert versions["stb"] == "unknown"
    assert versions["llama.cpp"] == recipe.LLAMA_CPP_COMMIT


def test_equal_folders_make_equal_wheels(
    built: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_check", lambda *_: None)
    written = []
    for name in ("one", "two"):
        packing.assemble(built, source, CPU, tmp_path / name, bundle_cuda=False)
        os.utime(tmp_path / name / "lib" / "libllama.so.0", (0, 0))
        written.append(packing.wheel(tmp_path / name, CPU, tmp_path / name / "wheel").read_bytes())
    assert written[0] == written[1]
    wheel = next((tmp_path / "one" / "wheel").iterdir())
    assert wheel.name == "llama_cpp_python-0.3.36+berth.cpu-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.getinfo("llama_cpp/lib/llama-server").external_attr >> 16 & 0o111
        assert "llama_cpp-python" not in " ".join(names)
        assert len([name for name in names if "libllama.so" in name]) == 1
        assert "+berth.cpu.dist-info/RECORD" in names[-1]


def test_the_bill_of_materials_has_no_date_and_no_random_number(source: Path) -> None:
    one, two = (sbom.document(source, CPU, {"bin/a": "00"}) for _ in range(2))
    assert one == two
    assert "serialNumber" not in json.loads(one)
    assert "timestamp" not in json.loads(one)["metadata"]


@pytest.mark.slow
def test_the_built_engine_names_its_recipe_and_its_commit(engine: Engine) -> None:
    if not (engine.folder / "recipe.json").is_file():
        pytest.skip(f"NOT TESTED: {engine.folder} is not a build of `make engine`")
    record = json.loads((engine.folder / "recipe.json").read_text())
    assert record["digest"] == CPU.digest
    assert record["llamaCppCommit"] == recipe.LLAMA_CPP_COMMIT
    wheel = engine.folder / "wheel" / record["wheel"]["file"]
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == record["wheel"]["sha256"]
    told = json.loads((engine.folder / "sbom.cdx.json").read_text())
    listed = {
        part["name"]: part["hashes"][0]["content"] for part in told["components"] if part["type"] == "file"
    }
    for name, digest in listed.items():
        assert hashlib.sha256((engine.folder / name).read_bytes()).hexdigest() == digest
        content = (engine.folder / name).read_bytes()
        assert b"-dirty" not in content
        assert b"engine-build" not in content, f"{name} names the folder that it was built in"
    assert {f"bin/{name}" for name in recipe.PROGRAMS} <= set(listed)
    assert len([name for name in listed if name.startswith("lib/libggml-cpu-")]) > 5


@pytest.mark.slow
def test_the_bindings_find_the_backends_that_lie_beside_them(engine: Engine, tmp_path: Path) -> None:
    if not (engine.folder / "recipe.json").is_file():
        pytest.skip(f"NOT TESTED: {engine.folder} is not a build of `make engine`")
    script = (
        "import sys, types; package = types.ModuleType('llama_cpp');"
        "package.__path__ = [sys.argv[1]]; sys.modules['llama_cpp'] = package;"
        "import llama_cpp._ggml as ggml, llama_cpp.llama_cpp as api; api.llama_backend_init();"
        "print(ggml.libggml.ggml_backend_reg_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, engine.folder / "python" / "llama_cpp"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "2", done.stderr
