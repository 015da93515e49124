"""The sources: the sdist through pip, its hash, and the llama.cpp that it carries."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import venv
from typing import TYPE_CHECKING

from serving.build import recipe

if TYPE_CHECKING:
    from pathlib import Path

_SOURCES_STAMP = ".sha256"


class BuildFailed(Exception):
    """The build cannot go on; the text says why and what to do."""


def tools(work: Path) -> Path:
    """Return the `bin` folder of an environment with the pinned build tools, made where it is absent."""
    folder = work / "tools"
    stamp, wanted = folder / ".installed", "\n".join(recipe.TOOLS)
    if not stamp.is_file() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run([*pip, "install", *recipe.TOOLS], f"could not install {', '.join(recipe.TOOLS)} from PyPI")
        stamp.write_text(wanted)
    return folder / "bin"


def sdist(work: Path, tools_folder: Path) -> Path:
    """Return the pinned sdist, downloaded where it is absent; a wrong hash is an error."""
    path = work / recipe.SDIST
    if not path.is_file():
        command = [
            str(tools_folder / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "download",
            f"{recipe.PACKAGE}=={recipe.VERSION}", "--no-deps", "--no-binary", recipe.PACKAGE,
            "--no-build-isolation", "--dest", str(work),
        ]  # fmt: skip
        run(command, f"could not download {recipe.PACKAGE} {recipe.VERSION} from PyPI")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != recipe.SDIST_SHA256:
        path.unlink()
        raise BuildFailed(f"{path.name} has sha256 {found}, not the pinned {recipe.SDIST_SHA256}; removed")
    return path


def unpack(work: Path, archive: Path) -> Path:
    """Return the unpacked sdist."""
    folder = work / "source"
    stamp = folder / _SOURCES_STAMP
    if not stamp.is_file() or stamp.read_text() != recipe.SDIST_SHA256:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tarfile.open(archive) as stream:
            # Debian 12's Python is older than filters, and heeds none; the content is known by its hash.
            stream.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            stream.extractall(folder)
        stamp.write_text(recipe.SDIST_SHA256)
    source = folder / recipe.SDIST.removesuffix(".tar.gz")
    found = commit(source)
    if found != recipe.LLAMA_CPP_COMMIT:
        raise BuildFailed(f"the sdist carries llama.cpp {found}, the recipe names {recipe.LLAMA_CPP_COMMIT}")
    return source


def commit(source: Path) -> str:
    """Return the commit of the vendored llama.cpp; the program itself does not know its own release."""
    return (source / ".git" / "modules" / "vendor" / "llama.cpp" / "HEAD").read_text().strip()


def run(command: list[str], problem: str) -> None:
    """Run a command; where it fails, its own words follow ours."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:])
        raise BuildFailed(problem)
