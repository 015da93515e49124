"""Workspaces as they stood at a git revision, for comparisons."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from berth.errors import BerthError
from generator.study import Study, study

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT_SECONDS = 60


class RevisionError(BerthError):
    """git can't give the files of a revision."""


def study_at(revision: str, paths: Sequence[str], fleet_path: Path | None) -> Study:
    """Judge the same paths as they were at `revision`.

    The files are unpacked to a temporary folder; their names are shown as in the working tree. A path that
    did not exist then has no Workspaces.

    Raises:
        RevisionError: there is no repository or no such revision.
    """
    if "-" in paths:
        raise RevisionError("standard input has no earlier revision; name files or folders with --since")
    root = Path(_git(["rev-parse", "--show-toplevel"], _folder(paths[0])).decode().strip())
    _git(["rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], root)
    archive = _git(["archive", "--format=tar", revision], root)
    with tempfile.TemporaryDirectory(prefix="berth-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            # Pythons before 3.11.4, as Debian 12 has it, know no filters; git holds no odd paths.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            tar.extractall(folder)
        base = Path(folder).resolve()
        (base / ".git").mkdir()
        moved = [_moved(path, root, base) for path in paths]
        there = [str(path) for path in moved if path.exists()]
        fleet = _moved(str(fleet_path), root, base) if fleet_path else None
        if not there:
            there = [str(base / ".git")]
        return study(there, fleet if fleet and fleet.exists() else None)


def _moved(path: str, root: Path, base: Path) -> Path:
    absolute = Path(path).resolve()
    try:
        return base / absolute.relative_to(root.resolve())
    except ValueError:
        raise RevisionError(f"{path} lies outside the repository {root}") from None


def _folder(path: str) -> Path:
    given = Path(path)
    return given if given.is_dir() else given.parent


def _git(arguments: Sequence[str], folder: Path) -> bytes:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**environment, "LC_ALL": "C"},
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise RevisionError("--since needs git, and there is no program of that name") from None
    except subprocess.TimeoutExpired:
        raise RevisionError(f"git {arguments[0]} took over {_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip() or f"no such revision: {arguments[-1]}"
        raise RevisionError(f"git {arguments[0]}: {reason}")
    return done.stdout
