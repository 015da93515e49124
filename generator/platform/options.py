"""The options of a render, written into its kustomization or chart: whoever renders again can see them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from generator.platform import frame

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINE = "# Options: "
_NO_WATCHER, _CERTIFICATES, _DRY_RUN = "--no-watcher", "--certificates", "--watcher-dry-run"


def line(settings: frame.Settings, *others: str) -> str:
    """Return the comment that names the options, empty where all are the defaults."""
    found = [*others, *written(settings)]
    return f"{_LINE}{shlex.join(found)}\n" if found else ""


def written(settings: frame.Settings) -> list[str]:
    """Return the options of `berth install` that make these settings, the fleet file aside."""
    found = []
    if settings.certificates != "own":
        found.append(f"{_CERTIFICATES}={settings.certificates}")
    if not settings.watcher:
        found.append(_NO_WATCHER)
    if settings.dry_run:
        found.append(_DRY_RUN)
    return found


def in_text(text: str) -> list[str]:
    """Return the options that a kustomization's text names."""
    return next((shlex.split(one[len(_LINE) :]) for one in text.splitlines() if one.startswith(_LINE)), [])


def read(options: Sequence[str]) -> frame.Settings:
    """Return the settings that these options make, with a default fleet; unknown ones count for nothing."""
    certificates: frame.Certificates = "own"
    if f"{_CERTIFICATES}=cert-manager" in options:
        certificates = "cert-manager"
    return frame.Settings(
        certificates=certificates, watcher=_NO_WATCHER not in options, dry_run=_DRY_RUN in options
    )
