"""Requests over kept TLS connections, as fast as they are answered, and how long each took."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvloop

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence


@dataclass
class Figures:
    """Of one run."""

    seconds: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_s

    def milliseconds(self, share: float) -> float:
        """Return a percentile."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True)
class Load:
    """What is asked for, how often at once, and when it ends."""

    ports: Sequence[int]
    """Connections take them in turn."""
    trusted: ssl.SSLContext
    body: bytes
    connections: int
    at_most_s: float
    requests: int | None = None
    """End earlier after so many."""


def run(load: Load) -> Figures:
    """Ask, and return the figures; an answer that is no 200 ends it."""
    return uvloop.run(_all(load))


async def _all(load: Load) -> Figures:
    figures = Figures()
    opened = [await _open(load, number) for number in range(load.connections)]
    began = time.perf_counter()
    await asyncio.gather(*(_one(load, *pair, figures, began + load.at_most_s) for pair in opened))
    figures.wall_s = time.perf_counter() - began
    for _, writer in opened:
        writer.close()
    return figures


async def _open(load: Load, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = load.ports[number % len(load.ports)]
    return await asyncio.open_connection("localhost", port, ssl=load.trusted, limit=2**20)


async def _one(
    load: Load, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, figures: Figures, until: float
) -> None:
    head = (
        "POST /validate?timeout=10s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(load.body)}\r\n\r\n"
    ).encode()
    content = head + load.body
    while (now := time.perf_counter()) < until:
        if load.requests is not None and len(figures.seconds) >= load.requests:
            return
        writer.write(content)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in answer.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        text = await reader.readexactly(length)
        figures.seconds.append(time.perf_counter() - now)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{answer!r} {text[:200]!r}")
