"""What the front refuses, and how each API says it.

A refusal is raised anywhere on a request's way and written once, at the edge, in the shape that the caller's
client library understands: OpenAI's, Anthropic's or that of the original's FastAPI.
"""

from __future__ import annotations

import json
import logging
import traceback
from typing import Any, Literal

log = logging.getLogger(__name__)

Api = Literal["openai", "anthropic", "original"]
OPENAI: Api = "openai"
ANTHROPIC: Api = "anthropic"
ORIGINAL: Api = "original"

CLIENT_CLOSED = 499
"""Only in logs and metrics: the client left before there was an answer."""

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                 429: "rate_limit_error"}  # fmt: skip
_ANTHROPIC_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error"}  # fmt: skip


class Refusal(Exception):
    """A request that gets no answer of the model, with the status and the reason fit for a person."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after = retry_after
        """Seconds after which another try makes sense."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the answer's headers; `Retry-After` is whole seconds, at least one."""
        found = [(b"content-type", b"application/json")]
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, round(self.retry_after + 0.5))).encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        return found

    def body(self, api: Api) -> bytes:
        """Return the answer's body in the shape of the API."""
        return json.dumps(describe(self.status, self.message, api, self.code)).encode()


def describe(status: int, message: str, api: Api, code: str | None = None) -> dict[str, Any]:
    """Return an error as JSON data."""
    fallback = "invalid_request_error" if status < 500 else "server_error"
    if api == ORIGINAL:
        return {"detail": message}
    if api == ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}
    kind = _OPENAI_TYPES.get(status, fallback)
    return {"error": {"message": message, "type": kind, "param": None, "code": code or kind}}


def bug(problem: BaseException) -> Refusal:
    """Return the answer to a request that failed by a mistake of ours, having logged where.

    An exception's own words may quote a prompt, so only its kind and its place are logged.
    """
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    places = "".join(traceback.format_tb(problem.__traceback__))
    log.error("a bug of this server: %s\n%s", type(problem).__name__, places.rstrip())
    return Refusal(500, "this server failed by a mistake of its own; its log says where")


def event(status: int, message: str, api: Api) -> bytes:
    """Return an error as an event of a stream that has begun, so that no client takes it for complete."""
    data = json.dumps(describe(status, message, api)).encode()
    name = b"event: error\n" if api == ANTHROPIC else b""
    return name + b"data: " + data + b"\n\n"
