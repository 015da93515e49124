"""Spans as a collector receives them: a real front, the real exporter, a receiver that decodes what comes."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving import tracing
from tests.serving import fronts
from tests.serving.conftest import Engine
from tests.serving.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "zebra-crossing-53"


@dataclass
class Receiver:
    """What a collector on this port was sent."""

    port: int = 0
    bodies: list[bytes] = field(default_factory=list)

    @property
    def resource(self) -> dict[str, str]:
        request = ExportTraceServiceRequest.FromString(self.bodies[0])
        attributes = request.resource_spans[0].resource.attributes
        return {one.key: one.value.string_value for one in attributes}

    @property
    def spans(self) -> list[Any]:
        requests = map(ExportTraceServiceRequest.FromString, self.bodies)
        return [
            span
            for request in requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            known = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if known:
                found.bodies.append(body)
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@dataclass(frozen=True)
class Configured(Engine):
    """The engine's environment with a collector in it."""

    collector: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }


@pytest.mark.slow
def test_a_collector_gets_a_span_for_each_request(engine: Engine, model_file: Path, tmp_path: Path) -> None:
    with receiving() as collector:
        configured = Configured(engine.folder, f"http://127.0.0.1:{collector.port}")
        with fronts.running(configured, model_file, tmp_path, "--parallel", "1") as front:
            chat = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 3, "ignore_eos": True}
            context = f"00-{TRACE}-{PARENT}-01"
            front.request(
                "POST",
                "/v1/chat/completions",
                json.dumps({**chat, "stream": True}).encode(),
                {"traceparent": context},
            )
            front.post("/chat", {"prompt": SECRET, "max_length": 12})
            assert front.request("POST", f"/{SECRET}", b"{}")[0] == 404
            front.get("/healthz")
            wait_until(lambda: len(collector.spans) == 3, "three spans", 10)
            front.post("/v1/completions", {"prompt": SECRET, "max_tokens": 1})
            front.terminate()  # the last span is sent before the end
            front.process.wait(30)
    streamed, original, unknown, last = collector.spans
    assert collector.resource["service.name"] == "berth-serving"
    assert collector.resource["berth.model"] == "smol"
    assert streamed.name == "POST /v1/chat/completions"
    assert (streamed.trace_id.hex(), streamed.parent_span_id.hex()) == (TRACE, PARENT)
    assert [event.name for event in streamed.events] == ["slot", "first token"]
    told = attributes(streamed)
    assert told["http.response.status_code"] == 200
    assert told["gen_ai.usage.output_tokens"] == 3
    assert told["berth.key"] == "anonymous"
    assert streamed.end_time_unix_nano > streamed.start_time_unix_nano
    assert original.name == "POST /chat"
    assert not original.parent_span_id
    assert (unknown.name, attributes(unknown)["http.response.status_code"]) == ("POST", 404)
    assert last.name == "POST /v1/completions"
    assert not any(SECRET.encode() in body for body in collector.bodies)


@pytest.mark.slow
def test_a_collector_that_is_gone_delays_neither_answers_nor_the_end(
    engine: Engine, model_file: Path, tmp_path: Path
) -> None:
    with receiving() as collector:
        configured = Configured(engine.folder, f"http://127.0.0.1:{collector.port}")
    with fronts.running(configured, model_file, tmp_path, "--parallel", "1") as front:
        assert front.post("/v1/completions", {"prompt": "Hi", "max_tokens": 1})[0] == 200
        front.terminate()
        assert front.process.wait(15) == 0


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="nothing is configured"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, id="all is off"
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, id="traces are off"
        ),
    ],
)
def test_nothing_is_sent_unless_asked_for(environment: dict[str, str]) -> None:
    assert tracing.from_environment(environment, "m") is None
