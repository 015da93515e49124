"""The Hugging Face hub, as far as a download needs it: what a file is, and its bytes from any place on.

`HF_ENDPOINT` may name a mirror. The token goes to the hub alone and never to the content network that it
redirects to, and no address is ever logged, since its query may be a signature. The standard library's client
reads a gigabyte with a quarter of the processor time that httpx takes.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urljoin, urlsplit

from serving.weights import addresses
from serving.weights.errors import MissingWeights, NotAllowed, WeightsError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    Answer = http.client.HTTPResponse | urllib.error.HTTPError

ENDPOINT = "https://huggingface.co"
BUFFER = 2**20
SILENCE = 60.0
"""Seconds; a connection on which nothing comes for that long is given up and opened anew."""
_REDIRECTS = frozenset([301, 302, 303, 307, 308])
_MOST_REDIRECTS = 5
_SIZE = re.compile(r"[0-9]{1,18}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PASSING = frozenset([408, 425, 429])
_REJECTED = frozenset([401, 403])
_LONGEST_PAUSE = 300.0
"""Seconds; what a server asks for beyond that is its own affair."""


class Passing(Exception):
    """Something that may be over when it is tried again, after `pause` seconds where the hub named them."""

    def __init__(self, text: str, pause: float | None = None) -> None:
        self.pause = pause
        super().__init__(text)


class Restart(Exception):
    """The server does not continue where it was asked to, so the file has to come from its beginning."""


@dataclass(frozen=True)
class Found:
    """One file of a repository as the hub describes it.

    `sha256` is the hub's own word for a large file: good to find a broken transfer, but no pin.
    """

    name: str
    size: int | None
    etag: str | None
    sha256: str | None
    commit: str | None

    @property
    def identity(self) -> dict[str, str | int | None]:
        """Equal for two answers exactly when they mean the same bytes."""
        return {"name": self.name, "size": self.size, "etag": self.etag, "sha256": self.sha256}


class Hub:
    """One repository at one revision. A branch counts as the commit that it had when it was first asked."""

    def __init__(
        self,
        repository: str,
        revision: str | None = None,
        *,
        endpoint: str = ENDPOINT,
        token: str | None = None,
        secret: str | None = None,
        silence: float = SILENCE,
    ) -> None:
        self.repository = repository
        self.asked = self.revision = revision or "main"
        self.endpoint = endpoint.rstrip("/")
        self.token = token
        self.secret = secret
        self.silence = silence
        self.host = _place(self.endpoint)

    def find(self, name: str) -> Found:
        """Ask what a file is.

        Raises:
            Passing: it may work later.
            WeightsError: it will not.
        """
        with self._ask("HEAD", name, {}) as response:
            headers = response.headers
            redirected = response.status in _REDIRECTS
        etag = (headers.get("x-linked-etag") or headers.get("etag") or "").removeprefix("W/").strip(
            '"'
        ) or None
        size = headers.get("x-linked-size") or (None if redirected else headers.get("content-length"))
        linked = headers.get("x-linked-etag", "").strip('"')
        commit = headers.get("x-repo-commit")
        if commit:
            self.revision = commit
        return Found(
            name=name,
            size=_bytes(size),
            etag=etag,
            sha256=linked if _DIGEST.fullmatch(linked) else None,
            commit=commit,
        )

    def stream(self, name: str, start: int) -> Generator[memoryview, None, None]:
        """Read a file's bytes from a place on; the address is asked for anew, since signed ones expire.

        Each piece stays as it is until the next but one is asked for.

        Raises:
            Passing: it may work later; what has come so far is good.
            Restart: the server can send the file only from its beginning.
            WeightsError: it will not work.
        """
        with self._ask("GET", name, {"Range": f"bytes={start}-"} if start else {}) as response:
            continues = response.headers.get("content-range", "").startswith(f"bytes {start}-")
            if response.status == 416 or (start and not (response.status == 206 and continues)):
                raise Restart
            left = _bytes(response.headers.get("content-length"))
            buffers, turn = (bytearray(BUFFER), bytearray(BUFFER)), 0
            while True:
                turn = 1 - turn
                with _network(self.host):
                    count = response.readinto(buffers[turn])
                if not count:
                    break
                left = None if left is None else left - count
                yield memoryview(buffers[turn])[:count]
            if left:
                raise Passing(f"the connection to {self.host} broke: its answer ended early")

    @contextlib.contextmanager
    def _ask(self, method: str, name: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Send a request, follow redirects, and refuse what is an error.

        To a HEAD a redirect to the content network is the answer: its headers tell what the file is.
        """
        response = self._send(method, self._address(name), headers)
        with contextlib.closing(response):
            if (response.status or 0) >= 400 and response.status != 416:
                self._refuse(response, name)
            yield response  # type: ignore[misc]

    def _send(self, method: str, address: str, headers: dict[str, str]) -> Answer:
        for _ in range(_MOST_REDIRECTS):
            place = urlsplit(address)
            own = place.netloc == self.host
            given = {"Authorization": f"Bearer {self.token}"} if own and self.token else {}
            request = urllib.request.Request(
                address, method=method, headers={"User-Agent": "berth", **headers, **given}
            )
            response: Answer
            with _network(place.netloc):
                try:
                    opener = _opener() if own else _guarded(addresses.is_inside(self.host))
                    response = opener.open(request, timeout=self.silence)
                except urllib.error.HTTPError as error:
                    response = error
            onward = response.headers.get("location")
            if response.status not in _REDIRECTS or not onward:
                return response
            following = urlsplit(urljoin(address, onward))
            # A redirect within the hub is a renamed repository; one to another place is the content.
            if method == "HEAD" and (following.netloc != place.netloc or "x-linked-etag" in response.headers):
                return response
            response.close()
            if following.scheme not in ("https", place.scheme):
                raise WeightsError(f"{place.netloc} redirects to an address that is not safe")
            address = following.geturl()
        raise WeightsError(f"{self.host} redirects in a circle")

    def _address(self, name: str) -> str:
        revision = quote(self.revision, safe="")
        return f"{self.endpoint}/{quote(self.repository)}/resolve/{revision}/{quote(name)}"

    def _refuse(self, response: Answer, name: str) -> NoReturn:
        status, host = response.status or 0, urlsplit(response.geturl()).netloc
        code = response.headers.get("x-error-code", "")
        told = response.headers.get("x-error-message", "")
        said = f"{host} answered {status}" + (f" ({told})" if told else "")
        if status in _PASSING or status >= 500:
            raise Passing(said, _retry_after(response.headers.get("retry-after")))
        if host != self.host:
            # A signed address has expired; the hub gives a new one.
            raise Passing(said)
        if code == "EntryNotFound":
            raise MissingWeights(f"{self.repository} at {self.revision} has no file {name}")
        if code == "RevisionNotFound":
            raise MissingWeights(f"{self.repository} has no revision {self.revision}")
        if status in _REJECTED or code in ("GatedRepo", "RepoNotFound"):
            raise NotAllowed(self._how_to_be_allowed(code, said))
        if status == 404:
            raise MissingWeights(f"there is no {name} in {self.repository} at {self.revision}: {said}")
        raise WeightsError(f"{name} of {self.repository} cannot be had: {said}")

    def _how_to_be_allowed(self, code: str, said: str) -> str:
        secret = (
            f"the Secret {self.secret}"
            if self.secret
            else "the Secret that `weights.tokenSecret` or `presetOptions.modelAccessSecret` names"
        )
        subject = f"{self.repository} is gated" if code == "GatedRepo" else f"{said}: {self.repository}"
        if self.token is None:
            be = "" if code == "GatedRepo" else " is private or gated, or does not exist"
            return (
                f"{subject}{be}, and this pod has no token. Accept the repository's terms on {self.endpoint}/"
                f"{self.repository}, create a token that may read it, put it under the key HF_TOKEN "
                "of a Secret, and name that in `inference.llamacpp.weights.tokenSecret`"
            )
        be = "" if code == "GatedRepo" else " is not open to this token, or does not exist"
        return (
            f"{subject}{be}, and the token under the key HF_TOKEN of {secret} was not accepted. Accept the "
            f"repository's terms on {self.endpoint}/{self.repository} with the token's account, and see that "
            "the token may read gated repositories"
        )


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    """Trusts the system's certificates, or SSL_CERT_FILE's, and uses the environment's proxies."""
    return urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=ssl.create_default_context()), _Stay()
    )


@functools.cache
def _guarded(inside: bool) -> urllib.request.OpenerDirector:
    """The same for redirects to other places, which a hub of the internet must not lead inwards."""
    return urllib.request.build_opener(addresses.Guarded(ssl.create_default_context(), inside), _Stay())


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect by itself, so that the token goes nowhere else."""

    def redirect_request(self, *_: object) -> None:
        return None


def _place(endpoint: str) -> str:
    """The endpoint's host and port."""
    address = urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise WeightsError(f"HF_ENDPOINT is {endpoint!r}; it has to begin with https://")
    return address.netloc


@contextlib.contextmanager
def _network(host: str) -> Iterator[None]:
    """Every failure of the network is one that may pass."""
    try:
        yield
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise Passing(f"{host} was silent for too long") from error
        if isinstance(error, urllib.error.URLError):
            raise Passing(f"{host} cannot be reached ({cause})") from error
        raise Passing(f"the connection to {host} broke ({cause})") from error


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait, which a server writes as a number or as a date."""
    if text is None:
        return None
    if text.isdecimal():
        return min(float(text), _LONGEST_PAUSE)
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, moment - time.time()), _LONGEST_PAUSE)


def _bytes(text: str | None) -> int | None:
    """A header's number of bytes, None where it is none of this world."""
    return int(text) if text and _SIZE.fullmatch(text) else None
