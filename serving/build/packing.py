"""Puts a build together: a folder that runs wherever it lies, and a wheel of the same files.

A plain install of llama.cpp holds every library under three names, twice. Here each lies once, under the name
by which others ask for it; the folder has links for the rest, the wheel (which cannot hold links) does
without. In the folder programs find backends beside them and libraries in `../lib`; the wheel has all in one.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import stat
import subprocess
import zipfile
from typing import TYPE_CHECKING

from serving.build import recipe, sbom
from serving.build.compiling import EPOCH
from serving.build.sources import BuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from serving.build.recipe import Variant

_VERSIONED = re.compile(r"^(?P<plain>lib.+\.so)\.\d+$")
_BACKEND = re.compile(r"^libggml-(cpu-\w+|rpc|cuda)\.so$")
_CUDA_LIBRARY = re.compile(r"^\s*(lib(?:cudart|cublas|cublasLt)\.so\.\d+) => (/\S+)", re.MULTILINE)

_LOADER = 'base_path / f"lib{lib_base_name}.so",'
_LOADER_VERSIONED = 'base_path / f"lib{lib_base_name}.so.0",'
_BACKENDS = """

# berth's build has one backend per kind of CPU in a file of its own; they lie beside the library
import ctypes

libggml.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
libggml.ggml_backend_load_all_from_path.restype = None
libggml.ggml_backend_load_all_from_path(str(libggml_base_path).encode())
"""


def assemble(built: Path, source: Path, variant: Variant, target: Path, bundle_cuda: bool) -> None:
    """Fill an empty folder with `bin`, `lib`, `python`, `licenses` and the list of what is in it."""
    programs, libraries = target / "bin", target / "lib"
    programs.mkdir(parents=True)
    libraries.mkdir()
    for name in recipe.PROGRAMS:
        shutil.copy2(built / name, programs / name)
    for name, path in _libraries(built).items():
        shutil.copy2(path, libraries / name, follow_symlinks=True)
        versioned = _VERSIONED.match(name)
        if versioned:
            (libraries / versioned["plain"]).symlink_to(name)
    for path in sorted(libraries.iterdir()):
        if _BACKEND.match(path.name):
            (programs / path.name).symlink_to(f"../lib/{path.name}")
    if bundle_cuda:
        _bundle_cuda(libraries)
    _bindings(source, target / "python")
    (target / "python" / "llama_cpp" / "lib").symlink_to("../../lib")
    _licenses(source, target / "licenses")
    (target / "sbom.cdx.json").write_text(sbom.document(source, variant, digests(target, _files(target))))
    _check(target, programs)


def wheel(target: Path, variant: Variant, folder: Path) -> Path:
    """Write the wheel of an assembled folder; equal folders give equal bytes."""
    local = f"{recipe.VERSION}+berth.{variant.name}"
    info = f"llama_cpp_python-{local}.dist-info"
    content: dict[str, Path | bytes] = {}
    for path in _files(target / "python"):
        content[path.relative_to(target / "python").as_posix()] = path
    for part in ("lib", "bin"):
        content |= {f"llama_cpp/lib/{path.name}": path for path in _files(target / part)}
    for path in _files(target / "licenses"):
        content[f"{info}/licenses/{path.relative_to(target / 'licenses').as_posix()}"] = path
    content[f"{info}/sboms/engine.cdx.json"] = target / "sbom.cdx.json"
    content[f"{info}/METADATA"] = _metadata(local)
    tag = "py3-none-linux_x86_64"
    content[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: berth\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    folder.mkdir(exist_ok=True)
    written = folder / f"llama_cpp_python-{local}-{tag}.whl"
    _write_zip(written, content, info)
    return written


def digests(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the sha256 of every file by its path below `root`."""
    found = {}
    for path in files:
        with path.open("rb") as stream:
            found[path.relative_to(root).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _libraries(built: Path) -> dict[str, Path]:
    """The libraries of a build by the names that others ask for: `libllama.so.0`, `libggml-rpc.so`."""
    real: dict[Path, list[str]] = {}
    for path in built.glob("lib*.so*"):
        real.setdefault(path.resolve(), []).append(path.name)
    found: dict[str, Path] = {}
    for path, names in real.items():
        plain = [name for name in names if name.endswith(".so")]
        backend = [name for name in plain if _BACKEND.match(name)]
        versioned = [name for name in names if _VERSIONED.match(name)]
        found[min(backend or versioned or plain or [path.name])] = path
    if not any(_BACKEND.match(name) for name in found):
        raise BuildFailed(f"no backend in {built}")
    return dict(sorted(found.items()))


def _bundle_cuda(libraries: Path) -> None:
    """Put the toolkit's run-time libraries beside the backend that needs them; the driver is the host's."""
    backend = libraries / "libggml-cuda.so"
    asked = subprocess.run(["ldd", str(backend)], capture_output=True, text=True, check=False)
    found = dict(_CUDA_LIBRARY.findall(asked.stdout))
    if len(found) < 2:
        raise BuildFailed(f"the CUDA run-time libraries of {backend.name} were not found:\n{asked.stdout}")
    for name, path in found.items():
        shutil.copyfile(path, libraries / name)
        (libraries / name).chmod(0o644)


def _bindings(source: Path, target: Path) -> None:
    """The Python bindings, told where this build keeps its backends and under which names its libraries."""
    ignored = shutil.ignore_patterns("__pycache__", "lib")
    shutil.copytree(source / "llama_cpp", target / "llama_cpp", ignore=ignored)
    loader = target / "llama_cpp" / "_ctypes_extensions.py"
    text = loader.read_text()
    if _LOADER not in text:
        raise BuildFailed("the bindings load their libraries in another way than the recipe knows")
    loader.write_text(text.replace(_LOADER, f"{_LOADER_VERSIONED}\n            {_LOADER}"))
    ggml = target / "llama_cpp" / "_ggml.py"
    if "libggml_base_path" not in ggml.read_text():
        raise BuildFailed("the bindings load libggml in another way than the recipe knows")
    with ggml.open("a") as stream:
        stream.write(_BACKENDS)


def _licenses(source: Path, target: Path) -> None:
    engine = source / "vendor" / "llama.cpp"
    wanted = {
        "llama-cpp-python": source / "LICENSE.md",
        "llama.cpp": engine / "LICENSE",
        "nlohmann-json": engine / "licenses" / "LICENSE-jsonhpp",
        "cpp-httplib": engine / "vendor" / "cpp-httplib" / "LICENSE",
    }
    target.mkdir()
    for name, path in wanted.items():
        shutil.copyfile(path, target / f"{name}.txt")


def _check(target: Path, programs: Path) -> None:
    """Start what was built, with no help from the environment."""
    for name in ("llama-server", "llama-bench", "llama-quantize"):
        flag = "--version" if name == "llama-server" else "--help"
        done = subprocess.run(
            [str(programs / name), flag],
            capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}, timeout=120,
        )  # fmt: skip
        said = done.stdout + done.stderr
        if name == "llama-server" and recipe.LLAMA_CPP_COMMIT[:9] not in said:
            raise BuildFailed(f"{target}/bin/{name} does not run, or is of another commit:\n{said[-2000:]}")
        if "error while loading" in said or done.returncode not in (0, 1):
            raise BuildFailed(f"{target}/bin/{name} does not run:\n{said[-2000:]}")


def _files(folder: Path) -> list[Path]:
    """The real files of a folder; a link is another name of one of them."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _metadata(version: str) -> bytes:
    fields = (
        "Metadata-Version: 2.1",
        "Name: llama_cpp_python",
        f"Version: {version}",
        "Summary: Python bindings of llama.cpp, with llama-server and its RPC server",
        "License: MIT",
        "Requires-Python: >=3.8",
        *(
            f"Requires-Dist: {one}"
            for one in ("typing-extensions>=4.5.0", "numpy>=1.20.0", "diskcache>=5.6.1", "jinja2>=2.11.3")
        ),
    )
    return ("\n".join(fields) + "\n").encode()


def _write_zip(written: Path, content: Mapping[str, Path | bytes], info: str) -> None:
    """A zip whose bytes depend on the content alone."""
    date = (1980, 1, 1, 0, 0, 0)
    assert EPOCH == 315_532_800
    records = []
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(content):
            source = content[name]
            data = source if isinstance(source, bytes) else source.read_bytes()
            runs = not isinstance(source, bytes) and bool(source.stat().st_mode & stat.S_IXUSR)
            entry = zipfile.ZipInfo(name, date)
            entry.external_attr = (0o100755 if runs else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            records.append(f"{name},sha256={digest},{len(data)}\n")
        record = zipfile.ZipInfo(f"{info}/RECORD", date)
        record.external_attr = 0o100644 << 16
        record.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(record, "".join(records) + f"{info}/RECORD,,\n")
