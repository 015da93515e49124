"""Small real models, a real registry and a connection to it that breaks."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import random
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from urllib.parse import parse_qs, urlsplit

import pytest

from berth.engine.tensors import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

ROOT = Path(__file__).parents[3]
METADATA = {
    "general.architecture": "llama",
    "general.name": "Tiny Model",
    "general.license": "apache-2.0",
    "general.source.url": "https://example.com/tiny",
    "general.file_type": 7,
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 1,
    "tokenizer.ggml.model": "none",
    "llama.vocab_size": 64,
}


def _sparse_gguf() -> ModuleType:
    """`tools/` is no package that is installed."""
    spec = importlib.util.spec_from_file_location("sparse_gguf", ROOT / "tools" / "sparse_gguf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Silent:
    """Counts what is told of progress: bytes done and in all, by the first word."""

    def __init__(self) -> None:
        self.told: dict[str, list[int]] = {}
        self.last = ""

    def begin(self, what: str, size: int) -> None:
        self.last = what.split()[0]
        self.told[self.last] = [0, size]

    def advance(self, count: int) -> None:
        self.told[self.last][0] += count


def extracted(layer: Path) -> dict[str, bytes]:
    """The files of a layer by their paths."""
    with tarfile.open(layer) as archive:
        return {
            member.name: stream.read()
            for member in archive.getmembers()
            if (stream := archive.extractfile(member)) is not None
        }


def split(gguf: Callable[..., Path], folder: str, count: int, stem: str = "m") -> list[Path]:
    """Write a model of several files."""
    return [
        gguf(
            f"{folder}/{stem}-{part + 1:05}-of-{count:05}.gguf",
            seed=part,
            **{"split.no": part, "split.count": count, "split.tensors.count": 2 * count},
        )
        for part in range(count)
    ]


def _missing(what: str, package: str) -> NoReturn:
    pytest.skip(f"NOT TESTED against a real registry: no {what}, `apt-get install {package}` brings it")


@pytest.fixture
def gguf(tmp_path: Path) -> Callable[..., Path]:
    """Write a GGUF file with real bytes in its tensors."""

    sparse = _sparse_gguf()

    def make(name: str = "tiny.Q8_0.gguf", rows: int = 64, seed: int = 0, **metadata: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = [Tensor("token_embd.weight", (64, rows), "F32"), Tensor("output_norm.weight", (64,), "F32")]
        size = sparse.write(path, {**METADATA, **metadata}, tensors)
        data = sum(tensor.size for tensor in tensors)
        with path.open("r+b") as stream:
            stream.seek(size - data)
            stream.write(random.Random(seed).randbytes(data))
        return path

    return make


@pytest.fixture
def skopeo() -> Callable[..., str]:
    """Run skopeo and return what it prints; what it copies is checked by its digest."""
    program = shutil.which("skopeo")
    if program is None:
        _missing("skopeo", "skopeo")

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [program, "--insecure-policy", *map(str, arguments)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@dataclass
class Server:
    """A running registry."""

    address: str
    log: Path

    def requests(self, method: str) -> int:
        """How many requests of a method it has answered."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return sum(
            line.get("http.request.method") == method and line["msg"] == "response completed"
            for line in lines
        )


PASSWORDS = "berth:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
"""The password is `secret`."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start Debian's docker-registry, with or without a password."""
    program = shutil.which("docker-registry")
    if program is None:
        _missing("docker-registry", "docker-registry")
    started: list[subprocess.Popen[bytes]] = []

    def run(*, password: bool = False) -> Server:
        folder = tmp_path / f"registry-{len(started)}"
        folder.mkdir()
        server = Server(f"127.0.0.1:{_free_port()}", folder / "log")
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": server.address},
        }
        if password:
            (folder / "htpasswd").write_text(PASSWORDS)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        (folder / "config.yaml").write_text(json.dumps(config))
        with server.log.open("wb") as log:
            started.append(
                subprocess.Popen([program, "serve", str(folder / "config.yaml")], stdout=log, stderr=log)
            )
        _until_open(server.address)
        return server

    yield run
    for process in started:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until_open(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nothing listens on {address}"
            time.sleep(0.05)
        else:
            return


@dataclass
class ResumingRegistry:
    """As much of the OCI distribution specification as a push takes; it keeps every byte that arrives."""

    address: str = ""
    uploads: int = 0
    open: dict[str, bytearray] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    held: ClassVar[ResumingRegistry]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(200 if self._name() in self.held.blobs else 404)

    def do_POST(self) -> None:
        self.held.uploads += 1
        self.held.open[str(self.held.uploads)] = bytearray()
        self._answer(202, str(self.held.uploads))

    def do_PATCH(self) -> None:
        upload, left = self.held.open[self._name()], int(self.headers["Content-Length"])
        if not self.headers["Content-Range"].startswith(f"{len(upload)}-"):
            self._answer(416)
            return
        while left:
            data = self.rfile.read1(min(left, 4096))
            if not data:
                return
            upload += data
            left -= len(data)
        self._answer(202, self._name())

    def do_GET(self) -> None:
        self._answer(204, self._name(), {"Range": f"0-{max(0, len(self.held.open[self._name()]) - 1)}"})

    def do_PUT(self) -> None:
        if "/manifests/" in self.path:
            length = int(self.headers["Content-Length"])
            self.held.manifests[self._name()] = self.rfile.read(length)
            self._answer(201)
            return
        data = bytes(self.held.open.pop(self._name()))
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.held.blobs[digest] = data
        self._answer(201 if digest == parse_qs(urlsplit(self.path).query)["digest"][0] else 400)

    def _name(self) -> str:
        return urlsplit(self.path).path.rpartition("/")[2]

    def _answer(self, status: int, upload: str | None = None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if upload is not None:
            self.send_header("Location", f"/v2/tiny/blobs/uploads/{upload}")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()


class _Threads(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Lines that break are what the tests are about."""


@pytest.fixture
def resuming() -> Iterator[ResumingRegistry]:
    """A registry that lets an upload go on; Docker's gives one up when a piece of it came broken."""
    held = ResumingRegistry()
    handler = type("Handler", (_Handler,), {"held": held})
    with _Threads(("127.0.0.1", 0), handler) as server:
        held.address = f"127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield held
        server.shutdown()


@dataclass
class BrokenLine:
    """A port that passes everything on, and resets each connection after some bytes while `breaks` last."""

    address: str
    breaks: list[int] = field(default_factory=list)
    broken: int = 0


@pytest.fixture
def broken_line() -> Iterator[Callable[[str, list[int]], BrokenLine]]:
    """Put a line that breaks in front of a server."""
    listeners: list[socket.socket] = []

    def run(target: str, breaks: list[int]) -> BrokenLine:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        line = BrokenLine(f"127.0.0.1:{listener.getsockname()[1]}", breaks)
        threading.Thread(target=_accept, args=(listener, target, line), daemon=True).start()
        return line

    yield run
    for listener in listeners:
        # Closing alone does not wake the thread that accepts.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, target: str, line: BrokenLine) -> None:
    host, _, port = target.partition(":")
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = socket.create_connection((host, int(port)))
        for source, sink, counted in ((client, server, True), (server, client, False)):
            threading.Thread(target=_pass_on, args=(source, sink, line, counted), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket, line: BrokenLine, counted: bool) -> None:
    passed = 0
    try:
        while data := source.recv(4096):
            passed += len(data)
            if counted and line.breaks and passed > line.breaks[0]:
                line.breaks.pop(0)
                line.broken += 1
                source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
