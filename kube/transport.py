"""One bounded exchange with the API server, over kr8s.

kr8s finds the server and the credentials; its own retry of 401 and 403 closes the session under every other
stream and asks four times for one refusal, so answers are judged here and kr8s never sees an error status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import httpx
import kr8s
from kr8s._api import Api  # the factory of kr8s.asyncio shares one session with strangers and asks unbounded

from kube.errors import TimedOut, Unreachable, from_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
REREAD_SECONDS = 60.0
"""A projected token changes about hourly; the file is read again this often."""
REREAD_AGAIN_SECONDS = 5.0
"""A refusal makes us read the credentials again, at most this often."""


class Transport:
    """Sends requests with the current credentials, and gives up in time."""

    def __init__(self, api: Api, user_agent: str) -> None:
        self._api = api
        self._user_agent = user_agent
        self._read_at = time.monotonic()
        self._rereading = asyncio.Lock()

    @classmethod
    async def open(cls, kubeconfig: Path | None, user_agent: str) -> Transport:
        """Find the server: the given file, else $KUBECONFIG or the pod's service account."""
        try:
            api = Api(bypass_factory=True, kubeconfig=str(kubeconfig) if kubeconfig else None)
            await api.auth
            # Left to the first call, concurrent first calls each make a session, and all but one leak.
            await api._create_session()
        except (ValueError, OSError, KeyError) as error:
            raise Unreachable(f"no credentials for an API server: {error}") from error
        return cls(api, user_agent)

    async def exchange(
        self, method: str, path: str, *, timeout_s: float, params: Mapping[str, str] | None = None,
        content: bytes | None = None, content_type: str = "application/json",
    ) -> bytes:  # fmt: skip
        """Send one request and return the answer's body; every way to fail is a KubeError."""
        for attempt in range(2):
            with _translated(f"{method} {path}"):
                async with (
                    asyncio.timeout(timeout_s),
                    self._call(method, path, params, content, content_type, timeout_s) as answer,
                ):
                    if answer.status_code == 401 and attempt == 0 and await self.reread():
                        continue
                    if answer.is_success:
                        return answer.content
                    raise from_answer(answer.status_code, answer.content, answer.headers)
        raise AssertionError("the second turn always ends above")  # pragma: no cover

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of lines; silence for longer than `silence_s` is an error, a half-open socket too."""
        with _translated(f"GET {path}"):
            async with self._call("GET", path, params, None, "", silence_s, stream=True) as answer:
                if not answer.is_success:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        body = await answer.aread()
                    if answer.status_code == 401:
                        await self.reread()
                    raise from_answer(answer.status_code, body, answer.headers)
                yield _lines(answer)

    def _call(
        self, method: str, path: str, params: Mapping[str, str] | None, content: bytes | None,
        content_type: str, timeout_s: float, stream: bool = False,
    ) -> contextlib.AbstractAsyncContextManager[httpx.Response]:  # fmt: skip
        return self._fresh(
            method, path, stream,
            params=dict(params or {}), content=content, headers=self._headers(content_type),
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_SECONDS, timeout_s)),
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _fresh(
        self, method: str, path: str, stream: bool, **options: Any
    ) -> AsyncIterator[httpx.Response]:
        if time.monotonic() - self._read_at > REREAD_SECONDS and not self._api.auth.client_cert_file:
            await self.reread()
            options["headers"].update(self._authorization())
        base, _, rest = path.lstrip("/").partition("/")
        async with self._api.call_api(
            method, version="", base=f"/{base}", url=rest, raise_for_status=False, stream=stream, **options
        ) as answer:
            yield answer

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"User-Agent": self._user_agent, "Accept": "application/json", **self._authorization()}
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    def _authorization(self) -> dict[str, str]:
        token = self._api.auth.token
        return {"Authorization": f"Bearer {token.strip()}"} if token else {}

    async def reread(self) -> bool:
        """Read the credentials again and say whether that was due; open streams are left alone."""
        async with self._rereading:
            if time.monotonic() - self._read_at < REREAD_AGAIN_SECONDS:
                return False
            self._read_at = time.monotonic()
            try:
                await self._api.auth.reauthenticate()
            except (ValueError, OSError, KeyError) as error:
                log.warning("the credentials cannot be read again; those before stay in use: %s", error)
            return True

    async def close(self) -> None:
        """Close every connection."""
        session = self._api._session
        if session is not None:
            with contextlib.suppress(RuntimeError, httpx.HTTPError):
                await session.aclose()


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, httpx.TimeoutException, kr8s.APITimeoutError) as error:
        raise TimedOut(f"{what}: no answer in time") from error
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
        raise Unreachable(f"{what}: {error or type(error).__name__}") from error
    except RuntimeError as error:
        if "closed" not in str(error):
            raise
        raise Unreachable(f"{what}: {error}") from error


async def _lines(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Whole lines only: what a cut leaves behind is no event."""
    rest = bytearray()
    async for chunk in answer.aiter_bytes():
        rest += chunk
        if b"\n" not in chunk:
            continue
        *whole, last = rest.split(b"\n")
        rest = bytearray(last)
        for line in whole:
            if line.strip():
                yield bytes(line)
