"""Times as the API writes them: RFC 3339, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def read(text: Any) -> datetime:
    """Read a time of the API; what is none is the beginning of time."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def seconds(moment: datetime) -> str:
    """Return a moment as most fields hold it, in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(moment: datetime) -> str:
    """Return a moment as Leases and Events hold it, in microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
