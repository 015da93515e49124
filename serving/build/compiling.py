"""Configures and compiles, and tells how far it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, TextIO

from serving.build import recipe
from serving.build.sources import BuildFailed

if TYPE_CHECKING:
    from pathlib import Path

    from serving.build.recipe import Variant

EPOCH = 315_532_800
"""1980-01-01, the date of every file and of `__DATE__`: the first that a zip archive can hold."""
_STEP = re.compile(r"\[(\d+)/(\d+)\]")
_REPORT_SECONDS = 30


def compile_engine(source: Path, work: Path, variant: Variant, tools: Path, jobs: int) -> Path:
    """Return the folder with programs and libraries."""
    _check_compilers(variant)
    build = work / f"objects-{variant.name}"
    log = work / f"build-{variant.name}.log"
    engine = source / "vendor" / "llama.cpp"
    # names of folders stay out of the result, and so does the time
    mapping = f"-ffile-prefix-map={source}=llama_cpp_python -ffile-prefix-map={build}=build"
    options = {
        **variant.options,
        "CMAKE_C_FLAGS": mapping,
        "CMAKE_CXX_FLAGS": mapping,
        "CMAKE_MAKE_PROGRAM": str(tools / "ninja"),
    }
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C"}
    configure = [
        str(tools / "cmake"), "-S", str(engine), "-B", str(build), "-G", "Ninja",
        *(f"-D{key}={value}" for key, value in options.items()),
    ]  # fmt: skip
    targets = [*recipe.PROGRAMS, *recipe.LIBRARIES]
    compile_command = [
        str(tools / "cmake"), "--build", str(build), "--parallel", str(jobs), "--target", *targets
    ]  # fmt: skip
    with log.open("w") as output:
        _run(configure, environment, output, log, "configure")
        _run(compile_command, environment, output, log, "compile")
    return build / "bin"


def compilers(variant: Variant) -> dict[str, str]:
    """Return the first line of what each compiler says of itself, for the record."""
    found = {}
    for name, program in (("cc", "cc"), ("c++", "c++"), *((("nvcc", "nvcc"),) if variant.cuda_major else ())):
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        lines = [line for line in asked.stdout.splitlines() if line.strip()]
        release = next((line for line in lines if "release" in line), lines[0] if lines else "unknown")
        found[name] = release.strip()
    return found


def _check_compilers(variant: Variant) -> None:
    needed = ["cc", "c++", *(["nvcc"] if variant.cuda_major else [])]
    missing = [program for program in needed if shutil.which(program) is None]
    if missing:
        raise BuildFailed(f"{', '.join(missing)} not found: install a C++ compiler (apt-get install g++)")
    if variant.cuda_major is not None:
        release = compilers(variant)["nvcc"]
        found = re.search(r"release (\d+)", release)
        if found is None or int(found.group(1)) != variant.cuda_major:
            raise BuildFailed(f"{variant.name} needs nvcc of CUDA {variant.cuda_major}, found: {release}")


def _run(command: list[str], environment: dict[str, str], output: TextIO, log: Path, doing: str) -> None:
    """Run a step; its whole output goes to the log, its progress to stderr."""
    started = reported = time.monotonic()
    print(f"{doing}: log in {log}", file=sys.stderr, flush=True)
    live = sys.stderr.isatty()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.write(line)
            step = _STEP.search(line)
            now = time.monotonic()
            if step and (live or now - reported >= _REPORT_SECONDS):
                reported = now
                _report(int(step.group(1)), int(step.group(2)), now - started, live)
    if live:
        print(file=sys.stderr)
    if process.returncode:
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-40:]))
        raise BuildFailed(f"could not {doing} the engine; the whole log is {log}")
    print(f"{doing}: done in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _report(done: int, total: int, seconds: float, live: bool) -> None:
    left = seconds / done * (total - done) if done else 0
    text = (
        f"compile: {done}/{total} ({100 * done // total} %), {seconds:.0f} s, about {left / 60:.0f} min left"
    )
    print(f"\r{text}\033[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)
