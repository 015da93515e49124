"""Two folders change places in one step, where the operating system can."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})
"""The kernel, or the file system, does not know the exchange."""


def place(new: Path, target: Path) -> None:
    """Put the folder `new` at `target`; what was there is at `new` afterwards, or beside it as `.old`.

    One step on Linux. Elsewhere there are two, and the next run mends what a crash between them leaves.
    """
    if not os.path.lexists(target):
        new.rename(target)
    elif not _exchanged(new, target):
        target.rename(_parked(new))
        new.rename(target)


def take_back(new: Path, target: Path) -> None:
    """Undo `place`."""
    parked = _parked(new)
    if os.path.lexists(parked):
        target.rename(new)
        parked.rename(target)
    elif not os.path.lexists(new):
        target.rename(new)
    else:
        _exchanged(new, target)


def _parked(new: Path) -> Path:
    return new.with_name(f"{new.name}.old")


def _exchanged(one: Path, other: Path) -> bool:
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> Any:
    with contextlib.suppress(OSError, AttributeError):
        call = ctypes.CDLL(None, use_errno=True).renameat2
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
        return call
    return None
