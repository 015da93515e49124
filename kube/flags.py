"""Flags that are environment variables as well: --cert-dir is BERTH_CERT_DIR."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def from_environment(front: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Make each flag's variable its default; argparse judges a text like one from the command line."""
    for action in front._actions:
        flag = next((one for one in action.option_strings if one.startswith("--")), None)
        if flag is None or flag == "--help":
            continue
        value = environment.get("BERTH_" + flag[2:].upper().replace("-", "_"))
        if not value:
            continue
        if action.nargs == 0:
            if value.lower() not in ("1", "true", "yes", "0", "false", "no"):
                front.error(f"the variable of {flag} is to be true or false, not {value!r}")
            action.default = value.lower() in ("1", "true", "yes")
        elif isinstance(action.default, list):
            action.default = value.split(",")
        elif action.choices is not None and value not in action.choices:
            front.error(f"the variable of {flag} is to be one of {', '.join(action.choices)}, not {value!r}")
        else:
            action.default = value


def add(
    group: argparse._ActionsContainer, flag: str, read: Callable[[str], object], default: object, help: str
) -> None:
    """Add a flag whose help ends with its default."""
    group.add_argument(flag, type=read, default=default, help=f"{help} (default %(default)s)")


def add_replica(group: argparse._ActionsContainer, environment: Mapping[str, str], lease_s: float) -> None:
    """Add what tells replicas apart, and for how long one of them leads."""
    named = environment.get("BERTH_POD_NAME")
    group.add_argument("--identity", default=named, help="this replica's (default: the pod's)")
    add(group, "--lease-seconds", positive, lease_s, "the leader's")


def count(text: str) -> int:
    """Read a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def positive(text: str) -> float:
    """Read a number above 0."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def not_negative(text: str) -> float:
    """Read a number that is 0 or above."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value
