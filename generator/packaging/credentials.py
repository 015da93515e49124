"""Who one is at a registry: the files that docker and podman keep, and the tokens that registries give."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from generator.packaging.errors import PackagingError

if TYPE_CHECKING:
    from collections.abc import Generator

DOCKER_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')
_TOKEN_USER = "<token>"
"""What credential helpers give as the user when the secret is an identity token."""


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or an identity token."""

    user: str = ""
    password: str = ""
    identity: str = ""

    @property
    def basic(self) -> str:
        """The value of a header of the Basic scheme."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(host: str, repository: str) -> Credentials | None:
    """Return what `docker login` or `podman login` has stored for a registry, None where nothing is.

    Raises:
        PackagingError: a file is broken, or a helper that it names fails.
    """
    for place in _files():
        if not place.is_file():
            continue
        try:
            config = json.loads(place.read_text("utf-8"))
            found = _from(config, host, repository)
        except (ValueError, AttributeError) as error:
            raise PackagingError(f"{place} cannot be read: {error}") from None
        if found is not None:
            return found
    return None


def _files() -> list[Path]:
    named = os.environ.get("REGISTRY_AUTH_FILE")
    folder = os.environ.get("DOCKER_CONFIG")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [
        *([Path(named)] if named else []),
        (Path(folder) if folder else Path.home() / ".docker") / "config.json",
        *([Path(runtime) / "containers" / "auth.json"] if runtime else []),
    ]


def _from(config: dict[str, Any], host: str, repository: str) -> Credentials | None:
    keys = [_HUB_KEY] if host == DOCKER_HUB else []
    # podman's files may name a part of the registry; the longest name counts.
    parts = f"{host}/{repository}".split("/")
    keys += ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    keys += [f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/"]
    helper = config.get("credHelpers", {}).get(host) or config.get("credsStore")
    if helper:
        found = _ask(helper, keys[0] if host == DOCKER_HUB else host)
        if found is not None:
            return found
    for key in keys:
        entry = config.get("auths", {}).get(key)
        if not entry:
            continue
        if entry.get("identitytoken"):
            return Credentials(identity=entry["identitytoken"])
        if entry.get("auth"):
            user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            return Credentials(user, password)
        if entry.get("username"):
            return Credentials(entry["username"], entry.get("password", ""))
    return None


def _ask(helper: str, key: str) -> Credentials | None:
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackagingError(f"{program}, which docker's config.json names, fails: {error}") from None
    if done.returncode != 0:
        # "credentials not found" is how helpers say that there are none.
        return None
    answer = json.loads(done.stdout)
    if answer.get("Username") == _TOKEN_USER:
        return Credentials(identity=answer["Secret"])
    return Credentials(answer["Username"], answer["Secret"])


class Login(httpx.Auth):
    """Answers a registry's challenge once, and sends what it got with every request to that registry."""

    requires_response_body = True

    def __init__(self, host: str, scope: str, credentials: Credentials | None) -> None:
        self.host, self.scope, self.credentials = host, scope, credentials
        self.header: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send, and send again with an answer to the challenge; uploads that live elsewhere get no header."""
        if request.url.netloc.decode() != self.host:
            yield request
            return
        if self.header is not None:
            request.headers["Authorization"] = self.header
        response = yield request
        if response.status_code != 401:
            return
        scheme, _, rest = response.headers.get("www-authenticate", "").partition(" ")
        if scheme.lower() == "bearer":
            asked = self._token_request(dict(_PARAMETER.findall(rest)))
            if asked.url.scheme != "https" and request.url.scheme == "https":
                raise PackagingError(f"{self.host} wants the login sent to {asked.url.host} without TLS")
            answer = yield asked
            self.header = f"Bearer {_token(answer)}"
        elif scheme.lower() == "basic" and self.credentials is not None and self.credentials.user:
            self.header = self.credentials.basic
        else:
            return
        request.headers["Authorization"] = self.header
        yield request

    def _token_request(self, challenge: dict[str, str]) -> httpx.Request:
        realm = challenge.get("realm", "")
        asked = {"service": challenge.get("service", ""), "scope": self.scope}
        if self.credentials is not None and self.credentials.identity:
            form = {**asked, "grant_type": "refresh_token", "client_id": "berth"}
            return httpx.Request("POST", realm, data={**form, "refresh_token": self.credentials.identity})
        headers = {"Authorization": self.credentials.basic} if self.credentials else {}
        return httpx.Request("GET", realm, params=asked, headers=headers)


def _token(answer: httpx.Response) -> str:
    if answer.status_code != 200:
        raise PackagingError(
            f"{answer.url.host} gives no token ({answer.status_code}): `docker login` or `podman login` first"
        )
    data = answer.json()
    return str(data.get("token") or data.get("access_token") or "")
