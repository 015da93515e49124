"""Bytes and Kubernetes quantities: whole numbers inside, GiB for people."""

from __future__ import annotations

import re
from decimal import Decimal

KIB = 1024
MIB = 1024**2
GIB = 1024**3

_SUFFIXES: dict[str, Decimal] = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)$")


def parse(text: str | int | float) -> Decimal:
    """Read a Kubernetes quantity such as `1500m`, `8Gi` or `1e3`.

    >>> parse("1.5Gi")
    Decimal('1610612736.0')

    Raises:
        ValueError: it is no quantity.
    """
    match = _QUANTITY.match(str(text))
    if match is None:
        raise ValueError(f"{text!r} is no Kubernetes quantity such as 500m, 8Gi or 2")
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SUFFIXES[suffix or ""]


def format_bytes(count: int) -> str:
    """Write a number of bytes as the shortest exact quantity, in binary units.

    >>> format_bytes(8 * GIB), format_bytes(1536 * MIB)
    ('8Gi', '1536Mi')
    """
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        unit = int(_SUFFIXES[suffix])
        if count and count % unit == 0:
            return f"{count // unit}{suffix}"
    return str(count)


def gib(count: int) -> str:
    """Write a number of bytes for people, in GiB.

    >>> gib(15_500_000_000)
    '14.4 GiB'
    """
    value = count / GIB
    return f"{value:.1f} GiB" if value >= 0.95 or count == 0 else f"{value:.2f} GiB"
