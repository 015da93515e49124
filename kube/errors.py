"""What can go wrong between us and the API server.

* KubeError                  the family; its text is fit for a person
  - ApiError                 the server answered, and the answer is no
    + NotFound, AlreadyExists, Conflict, Forbidden, Unauthorized, Gone, Invalid, TooManyRequests
  - Unreachable              no answer; whether a write happened is not known
    + TimedOut               no answer in time; the same holds
  - NotLeading               the lease is not ours any more, so nothing may be written
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import orjson

from berth.errors import BerthError

if TYPE_CHECKING:
    from collections.abc import Mapping


class KubeError(BerthError):
    """Something about the API server that the caller can act on."""


class ApiError(KubeError):
    """The server's own refusal: its `Status`, and after how many seconds it wants to be asked again."""

    def __init__(
        self, status: int, reason: str = "", message: str = "", retry_after: float | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.message = message or f"the API server answered {status} {reason}".rstrip()
        self.retry_after = retry_after
        super().__init__(self.message)


class NotFound(ApiError):
    """No such object, or no such resource: its CRD may be missing."""


class AlreadyExists(ApiError):
    """An object of that name is there, perhaps made by ourselves in a call whose answer was lost."""


class Conflict(ApiError):
    """The object changed since it was read, or is another one than the precondition names."""


class Forbidden(ApiError):
    """RBAC or an admission policy refuses it."""


class Unauthorized(ApiError):
    """The credentials are not taken, not even after they were read again."""


class Gone(ApiError):
    """The resource version is too old: list again."""


class Invalid(ApiError):
    """The object breaks the schema or a rule of it."""


class TooManyRequests(ApiError):
    """The server asks for patience."""


class Unreachable(KubeError):
    """No answer came; a write may have happened all the same."""


class TimedOut(Unreachable):
    """No answer came in time; a write may have happened all the same."""


class NotLeading(KubeError):
    """Somebody else may hold the lease by now."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_status(status: int, document: object, headers: Mapping[str, str] | None = None) -> ApiError:
    """Return the error that an HTTP answer or an ERROR event of a watch stands for."""
    known: Mapping[str, Any] = document if isinstance(document, dict) else {}
    reason = str(known.get("reason") or "")
    family = AlreadyExists if reason == "AlreadyExists" else _BY_STATUS.get(status, ApiError)
    if reason == "Expired":
        family = Gone
    return family(status, reason, str(known.get("message") or ""), _retry_after(known, headers or {}))


def from_answer(status: int, body: bytes, headers: Mapping[str, str]) -> ApiError:
    """Return the error of an answer; a body that is no `Status` (a proxy's page) is told in short."""
    document: object = None
    with contextlib.suppress(ValueError):
        document = orjson.loads(body)
    if not isinstance(document, dict):
        document = {"message": f"HTTP {status}: {body[:200].decode(errors='replace')}".strip()}
    return from_status(status, document, headers)


def _retry_after(document: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    details = document.get("details")
    told = headers.get("retry-after") or (
        details.get("retryAfterSeconds") if isinstance(details, dict) else 0
    )
    with contextlib.suppress(TypeError, ValueError):
        return float(told) or None  # type: ignore[arg-type]
    return None
