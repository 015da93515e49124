"""Uvicorn as an admission server needs it: patient with idle clients, impatient with slow ones.

API servers keep connections for 90 seconds and send the next review on them, so ours stay open for longer.
A client that connects and says nothing, or dribbles its headers, is cut off; each waits on its own, so that
hundreds of them take nothing but memory.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kube import serving

if TYPE_CHECKING:
    import asyncio
    import ssl

KEEP_ALIVE_SECONDS = 120
"""Longer than the 90 seconds after which an API server drops an idle connection itself."""
HEADER_SECONDS = 10.0
SILENCE_SECONDS = 120.0
GRACE_SECONDS = 10


class Protocol(HttpToolsProtocol):
    """Bounds the time until a connection's first request, and that of each request's headers."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait a bounded time for the first request."""
        super().connection_made(transport)
        self._wait(SILENCE_SECONDS)

    def on_message_begin(self) -> None:
        """From a request's first byte on, wait a shorter time for its headers."""
        super().on_message_begin()
        self._wait(HEADER_SECONDS)

    def on_headers_complete(self) -> None:
        """From here on the application bounds the time."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._patience = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class Server(serving.Server):
    """Knows how many connections it has."""

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self.server_state.connections)


def server(application: Any, context: ssl.SSLContext | None = None) -> Server:
    """Return a server; with a context it speaks TLS, whatever that context holds at a handshake."""
    config = uvicorn.Config(
        application,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        http=Protocol,
        ssl_context_factory=None if context is None else lambda config, default: context,
    )
    return Server(config)


def allow_many_connections() -> None:
    """Raise the limit of open files to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
