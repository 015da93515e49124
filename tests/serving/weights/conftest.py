"""A hub of one's own: real HTTP on loopback, with a second server as the content network behind it.

Beside it, one file whose readings are counted.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from serving.weights import checking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret"


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that begin as a GGUF file does and repeat nowhere."""
    return (b"GGUF" + random.Random(seed).randbytes(size))[:size]


DATA = content(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class FakeHub:
    """What it holds and how it behaves; `breaks` are numbers of bytes after which answers break off."""

    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    token: str | None = None
    gated: bool = False
    tells_sha256: bool = True
    claims: dict[str, str] = field(default_factory=dict)
    """Another sha256 than the right one, by file."""
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Statuses that the content network answers before it works."""
    ranges: bool = True
    chunk: int = 2**16
    delay: float = 0
    """Seconds between two chunks."""
    sent: int = 0
    heads: int = 0
    gets: list[str] = field(default_factory=list)
    """The ranges that were asked for, in order."""
    leaked: list[str] = field(default_factory=list)
    """Authorizations that reached the content network."""
    hub: str = ""
    cdn: str = ""

    def sha256(self, name: str) -> str:
        """Return the real sha256 of a file."""
        return hashlib.sha256(self.files[name]).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """One request to the hub or to the content network; the path tells which."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.server.fake.heads += 1
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        fake = self.server.fake
        found = re.fullmatch(r"/(org/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if found is None:
            self._send_content(self.path.removeprefix("/content/").partition("?")[0])
            return
        repository, revision, name = found.groups()
        if repository == "org/renamed":
            self._plain(307, {"Location": self.path.replace("renamed", "models")})
        elif repository != "org/models":
            self._plain(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif fake.gated and self.headers.get("Authorization") is None:
            self._plain(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
            self._plain(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "not in the authorized list"})
        elif revision not in ("main", COMMIT):
            self._plain(404, {"X-Error-Code": "RevisionNotFound"})
        elif name not in fake.files:
            self._plain(404, {"X-Error-Code": "EntryNotFound"})
        else:
            digest = fake.claims.get(name, fake.sha256(name)) if fake.tells_sha256 else "an-etag"
            self._plain(
                302,
                {
                    "Location": f"{fake.cdn}/content/{name}?signature=secret",
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(fake.files[name])),
                },
            )

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_content(self, name: str) -> None:
        fake = self.server.fake
        if "Authorization" in self.headers:
            fake.leaked.append(self.headers["Authorization"])
        asked = self.headers.get("Range")
        fake.gets.append(asked or "all")
        if fake.statuses:
            self._plain(fake.statuses.pop(0), {"Retry-After": "0"})
            return
        data, start = fake.files[name], 0
        if asked and fake.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = min(len(data), start + fake.breaks.pop(0)) if fake.breaks else len(data)
        for at in range(start, end, fake.chunk):
            piece = data[at : min(end, at + fake.chunk)]
            try:
                self.wfile.write(piece)
            except OSError:
                break
            fake.sent += len(piece)
            if fake.delay:
                time.sleep(fake.delay)
        if end < len(data):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    fake: FakeHub
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some tests are about."""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = tmp_path / "models" / "m.gguf"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read whole."""
    names: list[str] = []
    real = checking.hash_file

    def counted(path: Path, progress: checking.Progress | None = None) -> str:
        names.append(path.name)
        return real(path, progress)

    monkeypatch.setattr(checking, "hash_file", counted)
    return names


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub with one repository, `org/models`."""
    fake = FakeHub()
    servers = []
    for kind in ("hub", "cdn"):
        server = _Server(("127.0.0.1", 0), _Handler)
        server.fake = fake
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        setattr(fake, kind, f"http://127.0.0.1:{server.server_port}")
        servers.append(server)
    yield fake
    for server in servers:
        server.shutdown()
        server.server_close()


_PROGRAM = """\
import os
import sys
from serving.weights import commands, leases
leases.Timing.__init__.__defaults__ = (0.1, float(os.environ.get("STALE", 1)), 0.1, 0.05)
sys.exit(getattr(commands, sys.argv[1])(sys.argv[2:]))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a sub-command as a process of its own, as a pod's init container would.

    STALE in its environment are the seconds after which a silent owner is believed dead.
    """
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, arguments)],
            env={**os.environ, "TMPDIR": str(tmp_path), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
