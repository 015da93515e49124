"""What a plan was made from, as digests: the catalogue entries that it used, and nothing else.

A new model or price elsewhere in the catalogue changes no digest, so it changes no rendered file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from berth.plans import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from berth.instances import InstanceType
    from berth.models import Model


def of(model: Model | None, instances: Iterable[InstanceType]) -> str:
    """Return the digest of the catalogue entries that a plan used."""
    return digest({
        "model": model.digest if model else None,
        "instanceTypes": {instance.name: instance.digest for instance in instances},
    })
