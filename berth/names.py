"""Names of objects: the Workspace's own wherever it fits, cut with a hash where it does not."""

from __future__ import annotations

import hashlib

LONGEST = 63
"""A Service's name is a DNS label, and most names end in a label's value."""
LONGEST_STATEFUL_SET = 52
"""Pods of a StatefulSet carry `<name>-<ten characters>` as a label's value."""


def fitted(name: str, longest: int = LONGEST) -> str:
    """Return a name of at most `longest` characters; two long names never become one.

    >>> fitted("falcon-7b")
    'falcon-7b'
    >>> len(fitted("a" * 70)), fitted("a" * 70) == fitted("a" * 71)
    (63, False)
    """
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9].rstrip('-.')}-{_hash(name)}"


def part(workspace: str, suffix: str, longest: int = LONGEST) -> str:
    """Return the name of one part of a Workspace, `falcon-7b-plan`; the suffix survives the cut."""
    return f"{fitted(workspace, longest - len(suffix) - 1)}-{suffix}"


def of_cluster(namespace: str | None, workspace: str) -> str:
    """Return the name of a cluster-scoped object; it always ends in a hash.

    `a-b` in `c` and `b` in `c-a` would be one name otherwise.
    """
    readable = f"{namespace}-{workspace}" if namespace else workspace
    key = f"{namespace or ''}/{workspace}"
    return f"{readable[: LONGEST - 9].rstrip('-.')}-{_hash(key)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
