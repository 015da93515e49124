"""Builds the engine: `python -m serving.build --variant cpu --out .venv/engine`.

The result is a folder with `bin` (llama-server, ggml-rpc-server, llama-bench, llama-quantize), `lib`,
`python` (the bindings), `wheel` (all of it as one wheel), `licenses`, `sbom.cdx.json` and `recipe.json`. It
runs where it is put, without LD_LIBRARY_PATH. A folder whose recipe is the wanted one is left as it is.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from serving.build import compiling, packing, sources
from serving.build.recipe import VARIANTS, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECIPE_FILE = "recipe.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line asks for; 0 when it is there, 1 when it could not be made."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result; replaced as a whole")
    parser.add_argument("--work", type=Path, help="folder of sources and objects (default: OUT-build)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once")
    parser.add_argument(
        "--cuda-architectures", metavar="LIST", help="instead of the variant's, like 80-real;90"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="a CMake option on top"
    )
    parser.add_argument(
        "--bundle-cuda", action="store_true", help="put CUDA's run-time libraries beside the engine"
    )
    given = parser.parse_args(arguments)
    variant = _variant(given.variant, given.cuda_architectures, given.option)
    out = given.out.resolve()
    if is_current(out, variant):
        print(f"{out}: up to date ({variant.digest[:19]})", file=sys.stderr)
        return 0
    work = (given.work or out.with_name(f"{out.name}-build")).resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(work):
            if not is_current(out, variant):
                build(variant, out, work, given.jobs, given.bundle_cuda)
    except sources.BuildFailed as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


def build(variant: Variant, out: Path, work: Path, jobs: int, bundle_cuda: bool = False) -> None:
    """Make the folder anew and put it in place when it is whole."""
    print(f"building the engine for {variant.name}; the first time takes minutes", file=sys.stderr)
    tools = sources.tools(work)
    source = sources.unpack(work, sources.sdist(work, tools))
    built = compiling.compile_engine(source, work, variant, tools, jobs)
    fresh = work / f"out-{variant.name}"
    shutil.rmtree(fresh, ignore_errors=True)
    packing.assemble(built, source, variant, fresh, bundle_cuda)
    wheel = packing.wheel(fresh, variant, fresh / "wheel")
    record = {
        "digest": variant.digest,
        **variant.recipe,
        "compilers": compiling.compilers(variant),
        "wheel": {"file": wheel.name, **_size_and_digest(wheel)},
    }
    (fresh / RECIPE_FILE).write_text(json.dumps(record, indent=2) + "\n")
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        out.rename(old)
    shutil.move(fresh, out)
    shutil.rmtree(old, ignore_errors=True)
    print(f"{out}: {variant.name}, {variant.digest[:19]}", file=sys.stderr)


def is_current(out: Path, variant: Variant) -> bool:
    """Whether a folder holds exactly this recipe's build."""
    try:
        record = json.loads((out / RECIPE_FILE).read_text())
    except (OSError, ValueError):
        return False
    programs = [out / "bin" / name for name in record.get("programs", [])]
    return record.get("digest") == variant.digest and all(os.access(path, os.X_OK) for path in programs)


def _variant(name: str, architectures: str | None, options: Sequence[str]) -> Variant:
    chosen = VARIANTS[name]
    if architectures:
        chosen = replace(chosen, architectures=tuple(architectures.split(";")))
    more = dict(option.split("=", 1) for option in options)
    return replace(chosen, more=more)


def _size_and_digest(path: Path) -> dict[str, int | str]:
    found = packing.digests(path.parent, [path])
    return {"bytes": path.stat().st_size, "sha256": found[path.name]}


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the build folder; a second build waits for the first and finds its result."""
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another build in {work}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    raise SystemExit(main())
