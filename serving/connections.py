"""What a connection may take before its request is known: bytes, time, and an open file.

uvicorn's parser collects a head of any size and waits for it for ever. Nobody has shown a key by then, so
whoever reaches the port could fill the memory, or hold so many connections open that even the front's own to
the engine fail, which would look as if the engine hung.
"""

from __future__ import annotations

import re
import resource
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, or of the trailers behind its body; one read may bring more at once."""
HEAD_SECONDS = 20.0
"""From a head's first byte to its last."""
IDLE_SECONDS = 75.0
"""Without a request. More than the 60 of usual load balancers, so that they close idle connections first."""
_MOST_CONNECTIONS = 8192
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_IGNORED = b"\r\nignored:"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 31\r\nconnection: close\r\n\r\n"
    b"the request's head is too large"
)


def connections_at_most() -> int:
    """Raise the limit of open files as far as it may go, and return how many connections to take.

    Half of the files, since a request that runs has a connection to the engine as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MOST_CONNECTIONS, soft // 2)


class Connection(HttpToolsProtocol):
    """uvicorn's, with bounds. Callbacks named `on_…` are the parser's."""

    most: ClassVar[int] = _MOST_CONNECTIONS
    """Connections of the whole process."""
    head_seconds: ClassVar[float] = HEAD_SECONDS
    idle_seconds: ClassVar[float] = IDLE_SECONDS
    _all: ClassVar[set[Connection]] = set()
    _resting: ClassVar[dict[Connection, None]] = {}
    """Those without a request, the one that rests longest first."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._further = False
        self._standing = 0
        """Bytes since the parser came to the end of anything."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, in the place of one that rests where there are too many."""
        super().connection_made(transport)
        self._all.add(self)
        self._rest(self.idle_seconds)
        if len(self._all) > self.most:
            longest = next(iter(self._resting))
            longest._forget()  # it is told of its end only later
            longest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the connection go."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and hang up where that leads nowhere."""
        self._further = False
        super().data_received(_without_upgrade(data) if self._in_head else data)
        self._standing = 0 if self._further else self._standing + len(data)
        if self._standing > HEAD_BYTES and not self.transport.is_closing():
            if self._at_rest:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Give the head its time."""
        super().on_message_begin()
        self._rest(self.head_seconds)

    def on_headers_complete(self) -> None:
        """Leave the time to the request's own bounds."""
        self._in_head, self._further = False, True
        self._work()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._further = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of the body."""
        self._in_head = self._further = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for what is still to come of this one."""
        super().on_response_complete()
        if self._at_rest:
            self._rest(self.idle_seconds)

    @property
    def _at_rest(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _rest(self, seconds: float) -> None:
        self._work()
        if not self.transport.is_closing():
            self._resting[self] = None
            self._timer = self.loop.call_later(seconds, self._give_up)

    def _work(self) -> None:
        self._resting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        self._all.discard(self)
        self._work()

    def _give_up(self) -> None:
        if self._at_rest:
            self.transport.abort()
        else:  # the head of the next request, which comes while this one is answered
            self._rest(self.idle_seconds)


def _without_upgrade(data: bytes) -> bytes:
    """Blot an offer of another protocol out, as a server may; the parser would pass over the request's body.

    Java's own client offers HTTP/2 with every request.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(_IGNORED, head, count=1) + end + body if _UPGRADE.search(head) else data
