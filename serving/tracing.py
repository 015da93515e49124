"""Spans for OpenTelemetry, where its own environment variables say where to send them.

One span for each request, a child of the caller's: its route, status, key's name, tokens, and when it had its
slot and its first token. Never a prompt or an answer. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing is imported
and no request does more than look at an empty attribute.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 3.0
"""For the last spans at the end; a collector that is gone must not keep the pod."""
_CONTEXT_HEADERS = (b"traceparent", b"tracestate")

Headers = list[tuple[bytes, bytes]]


class Trace:
    """The span of one request."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def onward(self, headers: Headers) -> Headers:
        """Return the headers for the engine, with this span as the caller's."""
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, set_span_in_context(self._span))
        own = [(name.encode(), value.encode()) for name, value in carrier.items()]
        return [pair for pair in headers if pair[0] not in _CONTEXT_HEADERS] + own

    def event(self, name: str) -> None:
        """Note that something happened now."""
        self._span.add_event(name)

    def end(self, status: int, key: str, prompt: int = 0, completion: int = 0) -> None:
        """End the span; the sender's thread takes it from here."""
        from opentelemetry.trace import StatusCode

        self._span.set_attributes({"http.response.status_code": status, "berth.key": key})
        if prompt or completion:
            self._span.set_attributes(
                {"gen_ai.usage.input_tokens": prompt, "gen_ai.usage.output_tokens": completion}
            )
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracer:
    """Makes spans, and sends them in batches from a thread of its own."""

    def __init__(self, provider: TracerProvider, model: str) -> None:
        self._provider, self._model = provider, model
        self._tracer = provider.get_tracer("berth.serving")

    def begin(self, method: str, route: str | None, headers: Sequence[tuple[bytes, bytes]]) -> Trace:
        """Begin a request's span; a path that is no route of ours is not told, it may be anything."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in _CONTEXT_HEADERS
        }
        attributes = {"http.request.method": method, "gen_ai.request.model": self._model}
        if route is not None:
            attributes["http.route"] = route
        span = self._tracer.start_span(
            f"{method} {route}" if route is not None else method,
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
        )
        return Trace(span)

    def close(self) -> None:
        """Send what is left, for a bounded time."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_FLUSH_SECONDS)


def from_environment(environment: Mapping[str, str], model: str) -> Tracer | None:
    """Return what sends spans, or nothing where nobody asked for it.

    The rest of OpenTelemetry's variables (service's name, sampler, headers, time-outs) are its SDK's own.
    """
    asked = any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not asked or off or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("", "otlp"):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as problem:
        log.warning("no spans are sent: %s", problem)
        return None
    protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    if protocol != "http/protobuf":
        log.warning("spans are sent as http/protobuf, the only protocol here, not as %s", protocol)
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "berth-serving"}
    resource = Resource.create({**named, "berth.model": model})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    log.info("spans are sent to OpenTelemetry's collector")
    return Tracer(provider, model)
