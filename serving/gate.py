"""What every request passes before it reaches the model: who asks, may it, and is anybody there to answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from berth.images import MAX_BODY_BYTES, MAX_HELD_BYTES
from serving.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping

    from serving.engine import Engine
    from serving.keys import Key, KeyRing
    from serving.limits import Limits
    from serving.metrics import Metrics
    from serving.queueing import FairQueue
    from serving.tracing import Tracer

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

T = TypeVar("T")
_RETRY_SECONDS = 5.0


class ClientGone(Exception):
    """The client closed its connection; there is nobody to answer."""


@dataclass(frozen=True)
class Bounds:
    """What a request may take."""

    body_bytes: int = MAX_BODY_BYTES
    held_bytes: int = MAX_HELD_BYTES
    """Of the bodies of all requests that are inside."""
    body_seconds: float = 60.0
    """To receive the whole body."""
    request_seconds: float = 1800.0
    """From the engine's slot to the answer's end."""


@dataclass
class Visit:
    """A request while it is inside, and the bytes of its body."""

    held: int = 0


class Gate:
    """Shared by the original's API and the pass-through."""

    def __init__(
        self,
        keys: KeyRing,
        limits: Limits,
        queue: FairQueue,
        metrics: Metrics,
        engine: Engine,
        bounds: Bounds,
        tracer: Tracer | None = None,
    ) -> None:
        self.tracer = tracer
        self.keys, self.limits, self.queue = keys, limits, queue
        self.metrics, self.engine, self.bounds = metrics, engine, bounds
        self.draining = False
        self.active = 0
        """Requests between their first byte and the last of their answer."""
        self.held = 0
        """Bytes of their bodies."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether new requests are wanted."""
        return self.engine.ready and not self.draining

    @contextlib.contextmanager
    def visit(self) -> Iterator[Visit]:
        """Count a request, and its body, while it is inside."""
        self.active += 1
        self._idle.clear()
        visit = Visit()
        try:
            yield visit
        finally:
            self.active -= 1
            self.held -= visit.held
            if not self.active:
                self._idle.set()

    async def idle(self) -> None:
        """Return when no request is inside."""
        await self._idle.wait()

    def admit(self, headers: list[tuple[bytes, bytes]], *, generation: bool) -> Key:
        """Return who asks.

        Raises:
            Refusal: 401 without a key, 429 over its rate, 503 while nobody can answer.
        """
        key = self.keys.identify(headers)
        if self.draining:
            raise Refusal(
                503, "this server is shutting down", code="shutting_down", retry_after=_RETRY_SECONDS
            )
        if not self.engine.ready:
            text = f"the model is not ready: {self.engine.state}"
            raise Refusal(503, text, code="not_ready", retry_after=_RETRY_SECONDS)
        if generation:
            self.limits.check(key)
        return key

    def spend(self, key: Key, prompt: int, completion: int) -> None:
        """Book an answer's tokens."""
        self.limits.spend(key, prompt + completion)
        self.metrics.tokens(key.name, prompt, completion)

    async def body(self, receive: Receive, visit: Visit) -> bytes:
        """Return a request's body.

        Raises:
            Refusal: it is too large (413) or too slow (408), or those inside are too large together (503).
            ClientGone: it ended in the middle.
        """
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self.bounds.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    piece = message.get("body", b"")
                    size += len(piece)
                    if size > self.bounds.body_bytes:
                        raise Refusal(413, f"the body has more than {self.bounds.body_bytes} bytes")
                    self._hold(len(piece), visit)
                    pieces.append(piece)
                    if not message.get("more_body"):
                        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except TimeoutError:
            text = f"the body did not come within {self.bounds.body_seconds:g} seconds"
            raise Refusal(408, text) from None

    def _hold(self, size: int, visit: Visit) -> None:
        if self.held + size > self.bounds.held_bytes:
            text = f"the requests that are here have {self.held} bytes already, and no more fit"
            raise Refusal(503, text, code="overloaded", retry_after=_RETRY_SECONDS)
        self.held += size
        visit.held += size


def parse(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        Refusal: 400; the text says where, and quotes nothing.
    """
    try:
        data = json.loads(body)
    except json.JSONDecodeError as problem:
        raise Refusal(
            400, f"the body is no JSON: {problem.msg} at line {problem.lineno} column {problem.colno}"
        ) from None
    except (ValueError, RecursionError):  # no text, a number of thousands of digits, or nested too deeply
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(data, dict):
        raise Refusal(400, "the body must be a JSON object")
    return data


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run the work, and end it when the client leaves, so that nothing is computed for nobody.

    Raises:
        ClientGone: it left.
    """
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnect(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        leaving.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
