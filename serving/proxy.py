"""The engine's own API, passed through as bytes: what it sends is what the client reads, piece by piece.

An ASGI application of its own below FastAPI, since anything between would cost more per token than all of
this. Only the outer things are looked at: the key, whether the body is JSON, the model's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from berth.images import CHECKS
from serving import media
from serving.counting import Counter
from serving.gate import ClientGone, parse, while_connected
from serving.keys import ANONYMOUS
from serving.refusals import ANTHROPIC, CLIENT_CLOSED, OPENAI, Refusal, bug, event
from serving.routes import PATHS, ROUTES
from serving.upstream import EngineGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from serving.gate import Gate, Receive, Visit
    from serving.keys import Key
    from serving.queueing import Turn
    from serving.refusals import Api
    from serving.routes import Route
    from serving.tracing import Trace
    from serving.upstream import Exchange, Upstream

    Message = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

_REQUEST_HEADERS = frozenset({b"content-type", b"accept", b"accept-encoding", b"traceparent", b"tracestate"})
"""Passed to the engine. Not among them: keys, and a header that would let an answer outlive its client."""
_LARGE = 2**20
"""Bytes of a body that is worth waiting for others to be looked at first."""
_JSON = (b"content-type", b"application/json")
"""What was read as JSON goes on as JSON: of a form, as `curl -d` calls it, the engine takes 8 KiB."""
_NOT_ANSWERED = (b"connection", b"keep-alive", b"transfer-encoding", b"server", b"access-control-")
"""Not passed to the client: hop-by-hop, and the engine's CORS, which is open to every page."""


@dataclass
class Call:
    """One request on its way; what is learned of it is booked at its end."""

    method: str
    path: str
    target: str
    headers: list[tuple[bytes, bytes]]
    api: Api
    arrived: float
    key: Key = ANONYMOUS
    status: int = CLIENT_CLOSED
    streams: bool = False
    begun: bool = False
    """Whether the client has the answer's head."""
    counter: Counter | None = None
    trace: Trace | None = None


class Proxy:
    """Passes on what `ROUTES` lists.

    `names` are the model's, all in lower case; `images` says whether it has a projector.
    """

    def __init__(
        self, gate: Gate, upstream: Upstream, names: frozenset[str], *, strict: bool, images: bool = False
    ) -> None:
        self._gate, self._upstream = gate, upstream
        self._names, self._strict, self._images = names, strict, images
        self._checks = asyncio.Semaphore(CHECKS)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, query = scope["path"], scope["query_string"].decode("latin-1")
        api = ANTHROPIC if path.startswith("/v1/messages") else OPENAI
        target = f"{path}?{query}" if query else path
        call = Call(scope["method"], path, target, scope["headers"], api, monotonic())
        if self._gate.tracer is not None:
            route = path if path in PATHS else None
            call.trace = self._gate.tracer.begin(call.method, route, call.headers)
        with self._gate.visit() as visit:
            try:
                await self._answer(call, visit, receive, send)
            except Refusal as refusal:
                call.status = refusal.status
                await refuse(refusal, call.api, send, close=self._gate.draining)
            except ClientGone:
                call.status = CLIENT_CLOSED
                self._gate.metrics.cut("client")
            except Exception as problem:
                failure = bug(problem)
                call.status = failure.status
                if not call.begun:  # else the connection is closed in the middle of the answer
                    await refuse(failure, call.api, send, close=True)
            finally:
                self._book(call)

    async def _answer(self, call: Call, visit: Visit, receive: Receive, send: Send) -> None:
        route = ROUTES.get((call.method, call.path))
        if route is None:
            if call.path in PATHS:
                raise Refusal(405, f"{call.method} is not a method of {call.path}")
            raise Refusal(404, f"there is no {call.path}")
        call.key = self._gate.admit(call.headers, generation=route.generates)
        body = await self._gate.body(receive, visit) if call.method == "POST" else b""
        images = await self._check(body) if route.reads_json else 0
        turn = route.generates or images > 0  # decoding images takes memory, which is planned for each slot
        await while_connected(receive, self._relay(call, route, body, send, turn=turn))

    async def _check(self, body: bytes) -> int:
        """Return how many images a request has, if it may be passed on; few are unfolded at once."""
        async with self._checks if len(body) > _LARGE else contextlib.nullcontext():
            data = parse(body)
            self._check_model(data)
            return await media.check(data, images=self._images)

    def _check_model(self, data: dict[str, Any]) -> None:
        model = data.get("model")
        if self._strict and model is not None and str(model).lower() not in self._names:
            known = ", ".join(sorted(self._names))
            raise Refusal(404, f"there is no model {model!r} here; there is: {known}", code="model_not_found")

    async def _relay(self, call: Call, route: Route, body: bytes, send: Send, *, turn: bool) -> None:
        taken: Turn | None = None
        if turn:
            since = monotonic()
            taken = await self._gate.queue.enter(call.key.name)
            self._gate.metrics.queued(call.key.name, monotonic() - since)
            call.counter = Counter() if route.generates else None
            if call.trace is not None:
                call.trace.event("slot")
        headers = [pair for pair in call.headers if pair[0] in _REQUEST_HEADERS]
        if route.reads_json and body:
            headers = [pair for pair in headers if pair[0] != b"content-type"] + [_JSON]
        if call.trace is not None:
            headers = call.trace.onward(headers)
        exchange: Exchange | None = None
        try:
            async with asyncio.timeout(self._gate.bounds.request_seconds):
                exchange = await self._upstream.request(
                    call.method,
                    call.target,
                    body,
                    headers,
                    generation=turn,
                    when_closed=None if taken is None else taken.end,
                )
                await self._pass_on(call, exchange, send)
        except EngineGone as problem:
            self._gate.metrics.cut("engine")
            await self._break_off(call, Refusal(502, str(problem), code="engine_gone"), send)
        except TimeoutError:
            self._gate.metrics.cut("timeout")
            text = f"no complete answer within {self._gate.bounds.request_seconds:g} seconds"
            await self._break_off(call, Refusal(504, text, code="timeout"), send)
        finally:
            if exchange is not None:
                exchange.leave()

    async def _pass_on(self, call: Call, exchange: Exchange, send: Send) -> None:
        call.status = exchange.status
        headers = [pair for pair in exchange.headers if not pair[0].startswith(_NOT_ANSWERED)]
        call.streams = any(
            pair[1].startswith(b"text/event-stream") for pair in headers if pair[0] == b"content-type"
        )
        if self._gate.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
        call.begun = True
        counter, metrics, key = call.counter, self._gate.metrics, call.key.name
        observe = metrics.between(key) if counter is not None and call.streams else None
        last, done = 0.0, False
        while piece := await exchange.chunk():
            # The last piece and the end go out as one: one system call less for each request.
            done = exchange.done
            await send({"type": "http.response.body", "body": piece, "more_body": not done})
            if counter is None:
                continue
            events = counter.feed(piece)
            if observe is not None and events:
                now = monotonic()
                if last:
                    observe((now - last) / events)
                else:
                    metrics.first_token(key, now - call.arrived)
                    if call.trace is not None:
                        call.trace.event("first token")
                last = now
        if not done:
            await send({"type": "http.response.body", "body": b""})

    async def _break_off(self, call: Call, refusal: Refusal, send: Send) -> None:
        """Tell the client that there is no more: as an answer, as an event, or by a broken connection."""
        if not call.begun:
            raise refusal
        call.status = refusal.status
        if call.streams:
            piece = b"\n\n" + event(refusal.status, refusal.message, call.api)
            await send({"type": "http.response.body", "body": piece})
        log.warning("%s %s broke off: %s", call.method, call.path, refusal.message)

    def _book(self, call: Call) -> None:
        seconds = monotonic() - call.arrived
        prompt = completion = 0
        if call.counter is not None and call.begun and call.status in (200, CLIENT_CLOSED, 502, 504):
            usage = call.counter.usage()
            prompt, completion = usage.prompt, usage.completion
            self._gate.spend(call.key, prompt, completion)
            if not call.streams and usage.generation_seconds is not None and completion:
                self._gate.metrics.first_token(call.key.name, seconds - usage.generation_seconds)
                self._gate.metrics.between(call.key.name)(usage.generation_seconds / completion)
        self._gate.metrics.answered(call.key.name, call.status, seconds)
        if call.trace is not None:
            call.trace.end(call.status, call.key.name, prompt, completion)
        log.log(
            logging.INFO if call.counter is not None or call.status >= 400 else logging.DEBUG,
            "%s %s %d key=%s tokens=%d+%d %.3f s",
            call.method, call.path if call.path in PATHS else "(unknown path)", call.status,
            call.key.name, prompt, completion, seconds,
        )  # fmt: skip


async def refuse(refusal: Refusal, api: Api, send: Send, *, close: bool = False) -> None:
    """Send a refusal as the whole answer."""
    body = refusal.body(api)
    headers = [*refusal.headers(), (b"content-length", str(len(body)).encode())]
    if close or refusal.status in (408, 413):
        headers.append((b"connection", b"close"))
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
