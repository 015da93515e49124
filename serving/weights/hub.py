"""The Hugging Face hub, as far as a download needs it: what a file is, and its bytes from any place on.

`HF_ENDPOINT` may name a mirror. The token goes to the hub alone: where it redirects to a content network,
httpx leaves the header out. No address is ever logged, since its query may be a signature.
"""

from __future__ import annotations

import contextlib
import email.utils
import functools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import quote

import httpx

from serving.weights.errors import MissingWeights, NotAllowed, WeightsError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

ENDPOINT = "https://huggingface.co"
_TIMEOUT = httpx.Timeout(30, read=60)
"""Seconds; a connection on which nothing comes for a minute is given up and opened anew."""
_REDIRECTS = 5
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
        timeout: httpx.Timeout = _TIMEOUT,
    ) -> None:
        self.repository = repository
        self.asked = self.revision = revision or "main"
        self.endpoint = endpoint.rstrip("/")
        self.token = token
        self.secret = secret
        self.host = _place(self.endpoint)
        self.client = httpx.Client(
            timeout=timeout,
            verify=_trust(),
            headers={
                "User-Agent": "berth",
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def find(self, name: str) -> Found:
        """Ask what a file is.

        Raises:
            Passing: it may work later.
            WeightsError: it will not.
        """
        address = httpx.URL(self._address(name))
        for _ in range(_REDIRECTS):
            with _network(self.host):
                response = self.client.head(address)
            onward = response.headers.get("location")
            # A redirect within the hub is a renamed repository; one to another place is the content.
            following = address.join(onward) if response.is_redirect and onward else None
            if following is None or following.netloc != address.netloc or "x-linked-etag" in response.headers:
                break
            address = following
        if response.is_error:
            self._refuse(response, name)
        headers = response.headers
        etag = (headers.get("x-linked-etag") or headers.get("etag") or "").removeprefix("W/").strip(
            '"'
        ) or None
        size = headers.get("x-linked-size") or (
            None if response.is_redirect else headers.get("content-length")
        )
        linked = headers.get("x-linked-etag", "").strip('"')
        commit = headers.get("x-repo-commit")
        if commit:
            self.revision = commit
        return Found(
            name=name,
            size=int(size) if size and size.isdecimal() else None,
            etag=etag,
            sha256=linked if _DIGEST.fullmatch(linked) else None,
            commit=commit,
        )

    @contextlib.contextmanager
    def stream(self, name: str, start: int) -> Iterator[Iterator[bytes]]:
        """Read a file's bytes from a place on; the address is asked for anew, since signed ones expire.

        Raises:
            Passing: it may work later; what has come so far is good.
            Restart: the server can send the file only from its beginning.
            WeightsError: it will not work.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        with (
            _network(self.host),
            self.client.stream(
                "GET", self._address(name), headers=headers, follow_redirects=True
            ) as response,
        ):
            if response.status_code == 416:
                raise Restart
            if response.is_error:
                self._refuse(response, name)
            if start and (
                response.status_code != 206
                or not response.headers.get("content-range", "").startswith(f"bytes {start}-")
            ):
                raise Restart
            yield response.iter_raw()

    def _address(self, name: str) -> str:
        revision = quote(self.revision, safe="")
        return f"{self.endpoint}/{quote(self.repository)}/resolve/{revision}/{quote(name)}"

    def _refuse(self, response: httpx.Response, name: str) -> NoReturn:
        status, host = response.status_code, response.url.netloc.decode()
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
def _trust() -> ssl.SSLContext:
    """The certificates to trust, SSL_CERT_FILE included; loading them takes a tenth of a second."""
    return httpx.create_ssl_context()


def _place(endpoint: str) -> str:
    """The endpoint's host and port."""
    try:
        address = httpx.URL(endpoint)
    except httpx.InvalidURL as error:
        raise WeightsError(f"HF_ENDPOINT is {endpoint!r}, which is no address: {error}") from None
    if address.scheme not in ("http", "https") or not address.host:
        raise WeightsError(f"HF_ENDPOINT is {endpoint!r}; it has to begin with https://")
    return address.netloc.decode()


@contextlib.contextmanager
def _network(host: str) -> Iterator[None]:
    """Every failure of the network is one that may pass."""
    try:
        yield
    except httpx.ConnectError as error:
        raise Passing(f"{host} cannot be reached ({error})") from error
    except httpx.TimeoutException as error:
        raise Passing(f"{host} was silent for too long") from error
    except httpx.TooManyRedirects as error:
        raise WeightsError(f"{host} redirects in a circle") from error
    except httpx.TransportError as error:
        raise Passing(f"the connection to {host} broke ({error})") from error


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait, which a server writes as a number or as a date."""
    if text is None:
        return None
    if text.isdecimal():
        return min(float(text), _LONGEST_PAUSE)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return min(max(0.0, moment.timestamp() - time.time()), _LONGEST_PAUSE)
