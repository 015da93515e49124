"""Pushes an image over the registry's HTTP API, in pieces that can go on after a break."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self

import httpx

from generator.packaging.credentials import DOCKER_HUB, Login, find
from generator.packaging.errors import PackagingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from generator.packaging.images import Blob, Document, Image

PIECE = 32 * 2**20
"""Bytes of one request; a registry may ask for more."""
TRIES = 5
_PASSING = frozenset([408, 429, 500, 502, 503, 504])
_REFERENCE = re.compile(
    r"(?:(?P<host>[a-zA-Z0-9.-]+\.[a-zA-Z0-9.-]+(?::\d+)?|[a-zA-Z0-9.-]+:\d+|localhost(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)/)?"
    r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
)
_TIMEOUT = httpx.Timeout(30, read=300, write=300)
"""Seconds; a registry answers the last request of a large layer only when it has hashed it."""


@dataclass(frozen=True)
class Reference:
    """Where an image is pushed to."""

    host: str
    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}"


def parse(text: str) -> Reference:
    """Read `registry/name:tag`.

    Raises:
        PackagingError: it is none.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise PackagingError(
            f"{text!r} is no image reference such as registry.example.com/models/name:q4_k_m"
        )
    if match["tag"] is None:
        raise PackagingError(f"{text!r} has no tag; write for example {text}:q4_k_m")
    host, repository = match["host"] or DOCKER_HUB, match["repository"]
    if host == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(host, repository, match["tag"])


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, *, plain_http: bool | None = None, pause: float = 1) -> None:
        self.reference, self.pause = reference, pause
        address = "registry-1.docker.io" if reference.host == DOCKER_HUB else reference.host
        name = re.sub(r":\d+$", "", address)
        if plain_http is None:
            plain_http = name in ("localhost", "[::1]") or name.startswith("127.")
        self.base = f"http{'' if plain_http else 's'}://{address}/v2/{reference.repository}/"
        scope = f"repository:{reference.repository}:pull,push"
        self.client = httpx.Client(
            auth=Login(address, scope, find(reference.host, reference.repository)),
            timeout=_TIMEOUT,
            headers={"User-Agent": "berth"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def push(self, image: Image, progress: Callable[[int], None]) -> None:
        """Push blobs that are not there yet, then the manifests, and last the tag.

        Raises:
            PackagingError: the registry refuses, or could not be reached often enough.
        """
        for blob in image.blobs:
            self._blob(blob, progress)
        for manifest in image.manifests:
            self._manifest(manifest, manifest.digest)
        self._manifest(image.root, self.reference.tag)

    def _blob(self, blob: Blob, progress: Callable[[int], None]) -> None:
        if self._send("HEAD", f"blobs/{blob.digest}", fine=(200, 404)).status_code == 200:
            progress(blob.size)
            return
        location, piece = self._begin()
        offset, furthest, tries = 0, 0, 1
        while offset < blob.size:
            data = blob.read(offset, piece)
            while len(data) < piece and (more := blob.read(offset + len(data), piece - len(data))):
                data += more
            try:
                location, offset = self._piece(location, offset, data), offset + len(data)
                progress(len(data))
                if offset > furthest:
                    furthest, tries = offset, 1
            except _Broken as error:
                if tries >= TRIES:
                    raise PackagingError(f"{self.reference}: {error}, {TRIES} times") from None
                time.sleep(self.pause * 2 ** (tries - 1))
                tries += 1
                location, there = self._resume(location)
                progress(there - offset)
                offset = there
        self._send("PUT", location, fine=(201,), params={"digest": blob.digest})

    def _begin(self) -> tuple[httpx.URL, int]:
        response = self._send("POST", "blobs/uploads/", fine=(202,), content=b"")
        least = response.headers.get("oci-chunk-min-length", "0")
        return self._location(response), max(PIECE, int(least) if least.isdecimal() else 0)

    def _piece(self, location: httpx.URL, offset: int, data: bytes) -> httpx.URL:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{offset + len(data) - 1}",
        }
        try:
            response = self.client.patch(location, content=data, headers=headers)
        except httpx.TransportError as error:
            raise _Broken(f"the connection broke ({error})") from error
        if response.status_code == 416 or response.status_code in _PASSING:
            raise _Broken(f"the registry answered {response.status_code}")
        if response.status_code not in (201, 202, 204):
            self._refuse(response)
        return self._location(response)

    def _resume(self, location: httpx.URL) -> tuple[httpx.URL, int]:
        """Ask how much of an upload has arrived; begin again where the registry does not know it any more.

        Docker's own registry gives an upload up when a piece of it came broken.
        """
        try:
            response = self.client.get(location)
        except httpx.TransportError:
            return location, 0
        arrived = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("range", ""))
        if response.status_code != 204 or arrived is None:
            return self._begin()[0], 0
        # An upload without a byte says 0-0 as well, and so does one of a single byte, which nothing sends.
        last = int(arrived[1])
        return self._location(
            response
        ) if "location" in response.headers else location, last + 1 if last else 0

    def _manifest(self, manifest: Document, name: str) -> None:
        headers = {"Content-Type": manifest.media_type}
        self._send("PUT", f"manifests/{name}", fine=(201,), content=manifest.data, headers=headers)

    def _location(self, response: httpx.Response) -> httpx.URL:
        return response.url.join(response.headers["location"])

    def _send(
        self,
        method: str,
        address: str | httpx.URL,
        *,
        fine: tuple[int, ...],
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> httpx.Response:
        url = address if isinstance(address, httpx.URL) else httpx.URL(self.base + address)
        if params:
            # `params=` of a request would replace what the registry has put into an upload's address.
            url = url.copy_merge_params(params)
        tries = 1
        while True:
            try:
                response = self.client.request(method, url, content=content, headers=headers)
            except httpx.TransportError as error:
                if tries == TRIES:
                    raise PackagingError(f"{self.reference.host} cannot be reached: {error}") from None
            else:
                if response.status_code in fine:
                    return response
                if tries == TRIES or response.status_code not in _PASSING:
                    self._refuse(response)
            time.sleep(self.pause * 2 ** (tries - 1))
            tries += 1

    def _refuse(self, response: httpx.Response) -> NoReturn:
        if response.status_code in (401, 403):
            raise PackagingError(
                f"{self.reference.host} does not let you push to {self.reference.repository} "
                f"({response.status_code}): `docker login {self.reference.host}` with somebody who may"
            )
        try:
            told = "; ".join(error["message"] for error in response.json()["errors"])
        except (ValueError, KeyError, TypeError):
            told = response.text[:200]
        raise PackagingError(f"{self.reference.host} answered {response.status_code}: {told}")


class _Broken(Exception):
    """A piece did not arrive; the next try may bring it."""
