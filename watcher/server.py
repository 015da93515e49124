"""The plain port: /healthz, /readyz and /metrics.

Ready means that the cluster's objects are known, so that this replica can lead at once; a replica that stands
by is ready too. Neither probe asks the API server: its outage must not restart the watcher.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn

from kube.serving import Server

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    from watcher.metrics import Metrics

_TEXT = b"text/plain; charset=utf-8"
_METRICS = b"text/plain; version=0.0.4; charset=utf-8"
_LAST_SECONDS = 5.0


class Pages:
    """An ASGI application of three pages; the readiness page gives the reason in one line."""

    def __init__(self, metrics: Metrics, missing: Callable[[], str]) -> None:
        self._metrics = metrics
        self._missing = missing

    async def __call__(
        self, scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, body, kind = self._page(scope["method"], scope["path"])
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _page(self, method: str, path: str) -> tuple[int, bytes, bytes]:
        if method not in ("GET", "HEAD"):
            return 405, b"only GET\n", _TEXT
        if path == "/healthz":
            return 200, b"ok\n", _TEXT
        if path == "/readyz":
            missing = self._missing()
            text = f"waiting for {missing}\n" if missing else "ready\n"
            return (503 if missing else 200), text.encode(), _TEXT
        if path == "/metrics":
            return 200, self._metrics.text(), _METRICS
        return 404, b"here are /healthz, /readyz and /metrics\n", _TEXT


@contextlib.asynccontextmanager
async def serving(pages: Pages, place: socket.socket) -> AsyncIterator[None]:
    """Serve the pages while the block runs."""
    config = uvicorn.Config(
        pages, lifespan="off", ws="none", access_log=False, log_config=None, server_header=False,
        timeout_keep_alive=75, timeout_graceful_shutdown=1, http="httptools", limit_concurrency=256,
    )  # fmt: skip
    server = Server(config)
    task = asyncio.create_task(server.serve([place]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait({task}, timeout=_LAST_SECONDS)
