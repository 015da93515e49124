"""What goes wrong while a model is packaged."""

from __future__ import annotations

from berth.errors import BerthError


class PackagingError(BerthError):
    """The image cannot be made or pushed; the text says why."""
