"""API keys from a folder: a mounted Secret, one file for each key, read again when it changes.

A file's name is the key's name in metrics and logs; its first line is the key. Further lines may limit it:
`requests-per-minute: 60`, `tokens-per-minute: 20000`. Two keys at once make a rotation: add the new one, move
the clients, remove the old one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.refusals import Refusal

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger(__name__)

_LIMITS = ("requests-per-minute", "tokens-per-minute")
_WHOLE = re.compile(r"0*[1-9][0-9]{0,14}")
_PERIOD_SECONDS = 2.0


@dataclass(frozen=True)
class Key:
    """A caller. Of the key itself only a digest is kept."""

    name: str
    digest: bytes = b""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


ANONYMOUS = Key("anonymous")


class InvalidKey(Exception):
    """A key's file can't be used; the text names no secret."""


def parse(name: str, content: bytes) -> Key:
    """Read a key's file.

    Raises:
        InvalidKey: it holds no key, or a limit that can't be read.
    """
    try:
        first, *rest = [line.strip() for line in content.decode().splitlines() if line.strip()]
    except (UnicodeDecodeError, ValueError):
        raise InvalidKey(f"{name}: there is no key in its first line") from None
    limits: dict[str, int] = {}
    for line in rest:
        field, _, value = (part.strip() for part in line.partition(":"))
        if field not in _LIMITS or _WHOLE.fullmatch(value) is None:
            raise InvalidKey(f"{name}: a line after the key is none of {', '.join(_LIMITS)} with a number")
        limits[field] = int(value)
    return Key(name, _digest(first.encode()), *(limits.get(field) for field in _LIMITS))


class KeyRing:
    """The keys that are valid now. Without a folder, or with an empty one, everybody may ask.

    Once there was a key, none at all locks everybody out: a Secret that is deleted by mistake must not open
    the API.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._keys: tuple[Key, ...] = ()
        self._seen: object = None
        self.required = False
        self.refresh()

    def refresh(self) -> None:
        """Read the folder again if anything in it changed."""
        files = _files(self._folder)
        seen = [(path.name, stat.st_mtime_ns, stat.st_ino, stat.st_size) for path, stat in files]
        if seen == self._seen:
            return
        keys = []
        for path, _ in files:
            try:
                keys.append(parse(path.name, path.read_bytes()))
            except (InvalidKey, OSError) as problem:
                log.error("API key not used: %s", problem)
        self._seen, self._keys = seen, tuple(keys)
        self.required = self.required or bool(files)
        log.info("%d API keys: %s", len(keys), ", ".join(key.name for key in keys) or "none")

    async def watch(self) -> None:
        """Keep the ring fresh for ever."""
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            try:
                self.refresh()
            except OSError as problem:
                log.error("API keys stay as they are: %s cannot be read: %s", self._folder, problem)

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Key:
        """Return who asks, by `Authorization: Bearer`, `x-api-key` or `api-key`.

        Every key is compared, in constant time, so that the time tells nothing.

        Raises:
            Refusal: 401.
        """
        if not self.required:
            return ANONYMOUS
        digest = _digest(_token(headers))
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise Refusal(401, "a valid API key is needed", code="invalid_api_key")
        return found


def _token(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name in (b"x-api-key", b"api-key"):
            return value.strip()
    return b""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _files(folder: Path | None) -> list[tuple[Path, os.stat_result]]:
    """A Secret's volume has its own entries beside the keys, which begin with two dots."""
    if folder is None or not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        try:
            stat = path.stat()
        except OSError:
            continue
        if not path.name.startswith(".") and path.is_file():
            found.append((path, stat))
    return found
