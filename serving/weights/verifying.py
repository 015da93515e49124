"""A file on a shared volume is hashed by one pod, while the others wait for its stamp."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from serving.weights import checking, leases, stamps
from serving.weights.leases import Timing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serving.weights.checking import Checked

_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}


def verify(
    path: Path, sha256: str | None, say: Callable[[str], None], timing: Timing | None = None
) -> Checked:
    """Return the verdict on a model's files, having stamped them beside the first one if that may be.

    Where nothing can be written there, each pod hashes for itself, and is told so.

    Args:
        path: the GGUF file, the first one of a split model.
        sha256: the one that was promised; None where nobody knows one, and then nothing is hashed.
        say: told who is waited for, and what is wrong with the volume.
        timing: of the lease.

    Raises:
        MissingWeights: a file is not there or is no GGUF file.
    """
    if sha256 is None or stamps.read(path) is not None or not path.is_file():
        return checking.check(path, sha256)
    lock = path.with_name(f".{path.name}.lock")

    def waiting(owner: str) -> None:
        say(f"{path.name}: {owner} hashes it")

    def done() -> bool:
        return stamps.read(path) is not None

    try:
        with leases.held(lock, timing=timing or Timing(), done=done, waiting=waiting):
            return checking.check(path, sha256)
    except OSError as problem:
        if problem.errno not in _NOT_WRITABLE:
            raise
        say(
            f"{path.parent}: {problem.strerror}, so no stamp can stand there and every pod hashes "
            f"{path.name} anew; make the volume writable, or leave `weights.stamp` out"
        )
        return checking.check(path, sha256)
