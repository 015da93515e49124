"""A network on a bad day, between a client and an API server: an HTTP proxy that is late, wrong or silent.

What happens to the n-th request of a sort (`POST nodeclaims`, `WATCH nodes`, …) follows from the seed alone,
so a seed plays the same weather however requests interleave. A write whose client saw it fail may have
happened or not, and may even arrive after its client gave up.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import re
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WATCH_FAULTS = ("410 at once", "ERROR 410 later", "cut between lines", "cut mid-line", "silence")
READ_FAULTS = ("429", "500", "dropped", "slow body")
WRITE_FAULTS = ("429", "500", "dropped", "answer lost", "500 after the write", "arrives late", "slow body")
LATE_S = 0.6
"""How long after its client gave up a late write arrives."""


class Weather:
    """How often something fails, and what; a probability of zero is a sunny day."""

    def __init__(self, seed: int, probability: float = 0.0) -> None:
        self.seed = seed
        self.probability = probability
        self.met: Counter[str] = Counter()
        """How often each fault was played."""
        self._numbers: Counter[str] = Counter()

    def draw(self, sort: str, faults: tuple[str, ...]) -> tuple[str, random.Random]:
        """Return what happens to the next request of a sort, and the dice for its details."""
        self._numbers[sort] += 1
        dice = random.Random(f"{self.seed}/{sort}/{self._numbers[sort]}")
        if dice.random() >= self.probability:
            return "", dice
        fault = dice.choice(faults)
        self.met[fault] += 1
        return fault, dice


class Proxy:
    """Forwards to one API server what the weather lets through."""

    def __init__(self, kubeconfig: Path, weather: Weather) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.weather = weather
        self.passed: list[tuple[str, str, int, Any]] = []
        """Method, path, status and body of each write that the API server really answered."""
        self.on_write: Callable[[str, str, int, Any], None] = lambda *_: None
        self._server_url = cluster["server"]
        self._upstream = httpx.AsyncClient(
            base_url=cluster["server"], verify=ssl.create_default_context(cadata=authority),
            headers={"Authorization": f"Bearer {user['token']}"}, timeout=httpx.Timeout(30, read=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=50),
        )  # fmt: skip
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None
        self.port = 0

    async def start(self, folder: Path) -> Path:
        """Listen, and return a kubeconfig that leads here."""
        self._listening = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "tests", "user": {"token": "anything"}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }  # fmt: skip
        path = folder / f"kubeconfig-{self.port}"
        path.write_text(json.dumps(config))
        return path

    def cut(self) -> None:
        """Drop every connection that there is."""
        for writer in [*self._open]:
            writer.transport.abort()

    async def stop(self) -> None:
        """End every connection; writes that are still to arrive are let through."""
        if self._listening is not None:
            self._listening.close()
        late = {task for task in self._tasks if task.get_name() == "late"}
        if late:
            await asyncio.wait(late, timeout=2 * LATE_S + 5)
        for task in self._tasks - late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._upstream.aclose()

    @contextlib.asynccontextmanager
    async def running(self, folder: Path) -> Any:
        """Serve while the block runs, and hand out the kubeconfig."""
        path = await self.start(folder)
        try:
            yield path
        finally:
            await self.stop()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._exchange(method, target, headers.get("content-type", ""), body, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, _Cut, httpx.HTTPError):
            pass
        finally:
            writer.transport.abort()
            self._open.discard(writer)
            self._tasks.discard(task)

    async def _exchange(
        self, method: str, target: str, kind: str, body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        watching = parse_qs(urlsplit(target).query).get("watch") == ["true"]
        sort = f"{'WATCH' if watching else method} {plural(target)}"
        faults = WATCH_FAULTS if watching else READ_FAULTS if method == "GET" else WRITE_FAULTS
        fault, dice = self.weather.draw(sort, faults)
        headers = {"Content-Type": kind} if kind else {}
        request = self._upstream.build_request(method, target, content=body or None, headers=headers)
        if watching:
            await self._stream(request, fault, dice, writer)
            return
        if fault == "429":
            await _answer(writer, 429, _status(429, "TooManyRequests"), b"Retry-After: 1\r\n")
        elif fault == "500":
            await _answer(writer, 500, _status(500, "InternalError"))
        elif fault == "dropped":
            raise _Cut
        elif fault == "arrives late":
            self._spawn(self._send_late(request, dice.uniform(0.1, LATE_S)), "late")
            raise _Cut
        else:
            answer = await self._send(request)
            if fault == "answer lost":
                raise _Cut
            if fault == "500 after the write":
                await _answer(writer, 500, _status(500, "InternalError"))
                return
            await _answer(writer, answer.status_code, answer.content, slow=fault == "slow body")

    async def _send(self, request: httpx.Request) -> httpx.Response:
        answer = await self._upstream.send(request)
        if request.method != "GET":
            document = None
            with contextlib.suppress(ValueError):
                document = json.loads(request.content)
            self.passed.append((request.method, request.url.path, answer.status_code, document))
            self.on_write(request.method, request.url.path, answer.status_code, document)
        return answer

    async def _send_late(self, request: httpx.Request, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with contextlib.suppress(httpx.HTTPError):
            await self._send(request)

    async def _stream(
        self, request: httpx.Request, fault: str, dice: random.Random, writer: asyncio.StreamWriter
    ) -> None:
        if fault == "410 at once":
            await _answer(writer, 410, _status(410, "Expired"))
            return
        patience_s = dice.uniform(0.05, 1.0) if fault else None
        answer = await self._upstream.send(request, stream=True)
        try:
            if not answer.is_success:
                await _answer(writer, answer.status_code, await answer.aread())
                return
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    async for piece in answer.aiter_raw():
                        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                        await writer.drain()
                    writer.write(b"0\r\n\r\n")
                    await writer.drain()
                    return
            if fault == "ERROR 410 later":
                event = json.dumps({"type": "ERROR", "object": json.loads(_status(410, "Expired"))})
                writer.write(f"{len(event) + 1:x}\r\n{event}\n\r\n0\r\n\r\n".encode())
                await writer.drain()
            elif fault == "cut mid-line":
                half = b'{"type":"MODIFIED","object":{"metadata":{"name":'
                writer.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
                await writer.drain()
                raise _Cut
            elif fault == "silence":
                await asyncio.sleep(dice.uniform(0.5, 2.0))  # what happens meanwhile is lost with the line
                raise _Cut
            else:
                raise _Cut
        finally:
            await answer.aclose()

    def _spawn(self, job: Any, name: str) -> None:
        task = asyncio.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Cut(Exception):
    """The line is dead."""


def plural(target: str) -> str:
    """Return the resource of a path, without names: the same sort of request in every run."""
    path = re.sub(r"^/apis?/([^/]+/)?v[^/]+", "", urlsplit(target).path)
    parts = [part for part in re.sub(r"^/namespaces/[^/]+/", "/", path).split("/") if part]
    return "/".join([parts[0], *parts[2:3]]) if parts else "root"


def _status(code: int, reason: str) -> bytes:
    told = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "the network"}
    return json.dumps(told).encode()


async def _answer(
    writer: asyncio.StreamWriter, status: int, body: bytes, extra: bytes = b"", *, slow: bool = False
) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + extra + b"\r\n")
    if slow:
        for start in range(0, len(body), max(1, len(body) // 8)):
            writer.write(body[start : start + max(1, len(body) // 8)])
            await writer.drain()
            await asyncio.sleep(0.01)
    else:
        writer.write(body)
    await writer.drain()
