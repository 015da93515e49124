"""The real program over TLS: what is no review gets its own answer, and configuration is read again."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kube.configuration import BadConfiguration, Configuration
from tests.webhook.asking import ROOT, body
from webhook import server, settings
from webhook.app import BODY_SECONDS
from webhook.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 30
POD: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
JSON = {"Content-Type": "application/json"}


@dataclass
class Running:
    """The program and how to reach it."""

    port: int
    plain: int
    authority: Path
    process: subprocess.Popen[bytes]
    log: Path

    def connect(self) -> http.client.HTTPSConnection:
        trusted = ssl.create_default_context(cafile=str(self.authority))
        return http.client.HTTPSConnection("localhost", self.port, timeout=20, context=trusted)

    def post(self, content: Any, headers: dict[str, str], path: str = "/validate") -> tuple[int, bytes]:
        connection = self.connect()
        try:
            chunked = not isinstance(content, bytes)
            connection.request("POST", path, content, headers, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def plainly(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.plain, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    port, plain = _ports()
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "webhook", "--standalone", f"--port={port}", f"--plain-port={plain}",
             f"--cert-dir={folder}"],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while '"ready"' not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield Running(port, plain, folder / "ca.crt", process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def _ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def test_a_review_is_answered(running: Running) -> None:
    for path in ("/validate", "/mutate"):
        status, content = running.post(body(POD), JSON, path)
        assert (status, json.loads(content)["response"]["allowed"]) == (200, True)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        pytest.param(b"{", JSON, 400, id="no JSON"),
        pytest.param(b"", JSON, 400, id="nothing"),
        pytest.param(body(POD), {"Content-Type": "text/plain"}, 415, id="text"),
        pytest.param(body(POD), {}, 415, id="no content type"),
        pytest.param(b" " * (7 * 2**20 + 1), JSON, 413, id="more than 7 MiB"),
    ],
)
def test_what_is_no_review_is_told_why(
    running: Running, content: bytes, headers: dict[str, str], status: int
) -> None:
    answered, text = running.post(content, headers)
    assert answered == status
    assert text.endswith(b"\n")


def test_a_body_that_does_not_tell_its_length_is_bounded_too(running: Running) -> None:
    """The server may answer, or close the connection, once the limit is passed."""
    try:
        status, _ = running.post((b" " * 2**20 for _ in range(9)), {**JSON, "Transfer-Encoding": "chunked"})
    except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
        return
    assert status == 413


def test_seven_mebibytes_are_still_read(running: Running) -> None:
    large = {**POD, "metadata": {"name": "p", "annotations": {"a": "x" * (6 * 2**20)}}}
    assert running.post(body(large), JSON)[0] == 200


def test_500_idle_and_half_open_clients_starve_nobody(running: Running) -> None:
    idle = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(500)]
    try:
        for one in idle[:50]:
            one.sendall(b"\x16\x03\x01")  # a handshake that never goes on
        for _ in range(20):
            assert running.post(body(POD), JSON)[0] == 200
        assert running.plainly("/healthz")[0] == 200
    finally:
        for one in idle:
            one.close()


HEADERS = b"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SLOW: dict[str, tuple[bytes, bytes]] = {
    "a body that never comes": (HEADERS + b"Content-Length: 5000\r\n\r\n", b""),
    "a body in drops": (HEADERS + b"Content-Length: 5000\r\n\r\n", b"{"),
    "headers in drops": (HEADERS, b"A"),
}
"""What is sent at once, and what twice a second after that."""


def test_slow_clients_are_cut_off_and_hold_up_nobody(running: Running) -> None:
    """A body that does not arrive in time is 408; a request that never gets so far is closed."""
    trusted = ssl.create_default_context(cafile=str(running.authority))
    slow = {
        name: trusted.wrap_socket(
            socket.create_connection(("localhost", running.port), timeout=20), server_hostname="localhost"
        )
        for name in SLOW
    }
    half_open = socket.create_connection(("localhost", running.port), timeout=20)
    told: dict[str, bytes] = {}
    took: dict[str, float] = {}
    began = time.monotonic()
    try:
        for name, one in slow.items():
            one.sendall(SLOW[name][0])
            one.setblocking(False)
        while len(told) < len(SLOW) and time.monotonic() - began < BODY_SECONDS + 10:
            asked = time.monotonic()
            assert running.post(body(POD), JSON)[0] == 200
            assert time.monotonic() - asked < 5
            for name, one in slow.items():
                if name not in told:
                    with contextlib.suppress(ssl.SSLWantReadError, ConnectionError, ssl.SSLEOFError):
                        one.send(SLOW[name][1])
                        told[name] = one.recv(4096)
                        took[name] = time.monotonic() - began
            time.sleep(0.5)
    finally:
        for other in (*slow.values(), half_open):
            other.close()
    assert set(told) == set(SLOW)
    assert all(text.startswith(b"HTTP/1.1 408") for name, text in told.items() if "body" in name)
    assert told["headers in drops"] == b""
    assert all(BODY_SECONDS - 1 < seconds < BODY_SECONDS + 6 for seconds in took.values()), took


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_bug(running: Running) -> None:
    trusted = ssl.create_default_context(cafile=str(running.authority))
    leaving = trusted.wrap_socket(
        socket.create_connection(("localhost", running.port), timeout=20), server_hostname="localhost"
    )
    leaving.sendall(HEADERS + b"Content-Length: 5000\r\n\r\n{")
    time.sleep(0.2)
    leaving.close()
    deadline = time.monotonic() + 10
    while "the caller left" not in (said := running.log.read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    assert running.post(body(POD), JSON)[0] == 200
    assert "Traceback" not in running.log.read_text()


def test_the_plain_port_tells_health_and_metrics_and_no_content_is_logged(running: Running) -> None:
    secret = {**POD, "metadata": {"name": "p", "annotations": {"token": "do-not-log-me"}}}
    assert running.post(body(secret), JSON)[0] == 200
    assert running.plainly("/readyz") == (200, "ready\n")
    assert "berth_webhook_admission_requests_total{" in running.plainly("/metrics")[1]
    assert "do-not-log-me" not in running.log.read_text()


def test_the_program_prepares_its_catalogue_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Any] = []

    def occupied(*_: object) -> None:
        assert prepared
        raise OSError("in use")

    monkeypatch.setattr(server, "prepare", prepared.append)
    monkeypatch.setattr(server, "listen", occupied)
    given = settings.read(["--standalone", "--cert-dir", str(tmp_path)], {})
    assert server.run(given) == server.EXIT_PORT
    assert len(prepared) == 1


def test_the_fleet_file_is_read_again_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    file = tmp_path / "berth.yaml"
    file.write_text("cloud: aws\n")
    metrics = Metrics()
    configuration = Configuration(file, metrics.reloaded)
    configuration.load()

    def good() -> bool:
        return b"config_reload_successful 1.0" in metrics.text()

    assert configuration.fleet.cloud == "aws"
    assert good()
    for broken in ("cloud: mars\n", "{", "cloud: aws\nfallbackInstanceTypes: [nothing]\n"):
        file.write_text(broken)
        assert not configuration.refresh()
        assert (configuration.fleet.cloud, good()) == ("aws", False)
    file.write_text("cloud: gcp\n")
    assert configuration.refresh()
    assert (configuration.fleet.cloud, good()) == ("gcp", True)
    file.unlink()
    assert not configuration.refresh()
    assert not good()
    file.write_text("cloud: gcp\n")
    configuration.refresh()
    assert good()


@pytest.mark.parametrize(
    "text", ["cloud: mars\n", "{", "[1]\n", "\xff"], ids=["a value", "YAML", "a list", "bytes"]
)
def test_a_first_fleet_file_that_is_wrong_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "berth.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadConfiguration) as told:
        Configuration(file, Metrics().reloaded).load()
    assert str(told.value)


def test_every_flag_has_its_variable_and_the_command_line_wins() -> None:
    environment = {
        "BERTH_PORT": "9443",
        "BERTH_STANDALONE": "true",
        "BERTH_CERT_DIR": "/c",
        "BERTH_DNS_NAME": "a,b",
    }
    found = settings.read([], environment)
    assert (found.port, found.standalone, found.cert_dir, found.dns_names) == (
        9443,
        True,
        Path("/c"),
        ("a", "b"),
    )
    assert settings.read(["--port", "1"], environment).port == 1


@pytest.mark.parametrize(
    "arguments", [["--standalone"], ["--certificates", "files"], ["--port", "x"], ["--authority-days", "0"]]
)
def test_settings_that_cannot_be_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        settings.read(arguments, {})
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err
