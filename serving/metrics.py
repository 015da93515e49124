"""Metrics that people need and the engine lacks, and the engine's own beside them."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from serving.upstream import EngineGone

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from serving.engine import Engine
    from serving.queueing import FairQueue
    from serving.upstream import Upstream

_FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_BETWEEN = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_TOKENS = tuple(2.0**power for power in range(18))
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Of one model; a key's label is its name, never the key."""

    def __init__(self, model: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.model = model
        labels = ("model", "key")

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"berth_{name}", text, labels, registry=self.registry, buckets=buckets)

        self._first = histogram(
            "time_to_first_token_seconds",
            "From a request's arrival to its first token, queue included",
            _FIRST,
        )
        self._between = histogram("inter_token_seconds", "Between two tokens of one answer", _BETWEEN)
        self._queue = histogram("queue_seconds", "Waiting for a slot", (0.001, 0.005, *_FIRST))
        self._duration = histogram("request_seconds", "From a request's arrival to its end", _FIRST)
        self._prompt = histogram("prompt_tokens", "Tokens of a prompt, cached ones included", _TOKENS)
        self._completion = histogram("completion_tokens", "Tokens of an answer", _TOKENS)
        self._requests = Counter(
            "berth_requests",
            "Requests by the status of their answer",
            (*labels, "code"),
            registry=self.registry,
        )
        self._refusals = Counter(
            "berth_queue_refusals", "Requests that found no place", ("reason",), registry=self.registry
        )
        self._cut = Counter(
            "berth_streams_cut", "Answers that broke off, by who ended them", ("by",), registry=self.registry
        )

        def verified(name: str) -> Gauge:
            text = "1, labelled by whether the content was verified"
            return Gauge(f"berth_{name}", text, ("model", "state"), registry=self.registry)

        self._weights, self._projector = verified("weights"), verified("projector")

    def weights(self, state: str) -> None:
        """Show what is known of the weights' content."""
        self._weights.labels(self.model, state).set(1)

    def projector(self, state: str) -> None:
        """Show the same of the projector."""
        self._projector.labels(self.model, state).set(1)

    def refused(self, reason: str) -> None:
        """Count a request that the queue sent away."""
        self._refusals.labels(reason).inc()

    def cut(self, by: str) -> None:
        """Count an answer that broke off, by `client`, `engine` or `timeout`."""
        self._cut.labels(by).inc()

    def answered(self, key: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(self.model, key, str(status)).inc()
        self._duration.labels(self.model, key).observe(seconds)

    def queued(self, key: str, seconds: float) -> None:
        """Note how long a slot was waited for."""
        self._queue.labels(self.model, key).observe(seconds)

    def first_token(self, key: str, seconds: float) -> None:
        """Note when the first token came."""
        self._first.labels(self.model, key).observe(seconds)

    def between(self, key: str) -> Callable[[float], None]:
        """Return the function that notes one time between two tokens; it is called for each token."""
        observe: Callable[[float], None] = self._between.labels(self.model, key).observe
        return observe

    def tokens(self, key: str, prompt: int, completion: int) -> None:
        """Note what an answer cost."""
        self._prompt.labels(self.model, key).observe(prompt)
        self._completion.labels(self.model, key).observe(completion)

    def observe(self, engine: Engine, queue: FairQueue) -> None:
        """Show what is read only when somebody scrapes."""
        gauges: list[tuple[str, str, Callable[[], float]]] = [
            ("slots_running", "Requests that have a slot", lambda: queue.running),
            ("queue_waiting", "Requests that wait for a slot", lambda: queue.waiting),
            ("engine_ready", "1 if requests can be served", lambda: float(engine.ready)),
            ("engine_load_ratio", "Share of the weights that is loaded", lambda: engine.output.progress),
            ("engine_restarts", "Starts of the engine after its first", lambda: engine.restarts),
            ("front_resident_bytes", "Memory that the front takes now, the engine not included", _resident),
        ]
        for name, text, value in gauges:
            Gauge(f"berth_{name}", text, registry=self.registry).set_function(value)

    async def text(self, upstream: Upstream) -> bytes:
        """Return all of it as Prometheus reads it, the engine's own last."""
        own = generate_latest(self.registry)
        try:
            async with asyncio.timeout(2.0):
                status, engine = await upstream.json("GET", "/metrics")
        except (EngineGone, TimeoutError):
            return own
        return own + engine.encode() if status == 200 and isinstance(engine, str) else own


def application(metrics: Metrics, upstream: Upstream) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application of the metrics port: `/metrics`, `/healthz` and nothing else."""

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        pages = {"/metrics": metrics.text, "/healthz": _healthy}
        page = pages.get(scope["path"]) if scope["method"] == "GET" else None
        body = await page(upstream) if page else b"not found\n"
        headers = [(b"content-type", _TEXT), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if page else 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


async def _healthy(upstream: Upstream) -> bytes:
    return b"ok\n"


def _resident() -> float:
    """The kernel's own peak counts what the process was before it became this program."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return float(int(pages) * resource.getpagesize())
