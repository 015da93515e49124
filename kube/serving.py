"""What a server in the cluster needs around uvicorn: a port taken early, and an end that is its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 2048
"""Connections that wait to be accepted; as many as uvicorn lets wait once it serves."""


class Server(uvicorn.Server):
    """Leaves signals to its program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing with them."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Take the port now, so that a taken one is told before anything else begins."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; neither ends the process by itself any more."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
