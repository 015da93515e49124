"""The HTTPS application: POST /validate and /mutate, each an AdmissionReview in and out.

What is no review gets an HTTP error that says why. A bug of ours is 500 with the review's uid in the log and
nothing of its content, not even through an exception's own text.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from kube.logs import fields
from webhook import admission, reviews, workers
from webhook.room import Room
from webhook.workers import Late, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from webhook.admission import Context
    from webhook.metrics import Metrics
    from webhook.traffic import Traffic

log = logging.getLogger(__name__)

LARGEST_BODY_BYTES = 7 * 2**20
"""An API server takes objects of 3 MiB, and a review holds two of them."""
BODY_SECONDS = 10.0
"""For a whole body to arrive; API servers themselves give up after 30."""
ROOM_BYTES = 32 * 2**20
"""Of larger reviews that are held at once; two of them are worked on, so more would only take memory."""
_INLINE_BYTES = 128 * 2**10
"""Smaller reviews are read at once; a hand-over to a thread would cost more than it saves."""


class _Refused(Exception):
    """The request is no review."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Admissions:
    """Answers reviews."""

    def __init__(self, context: Callable[[], Context], metrics: Metrics, traffic: Traffic) -> None:
        self._context = context
        self._metrics = metrics
        self._traffic = traffic
        self._workers = Workers()
        self._room = Room(ROOM_BYTES)

    async def validate(self, request: Request) -> Response:
        """Say whether the object may be stored."""
        return await self._answer(request, "validate")

    async def mutate(self, request: Request) -> Response:
        """Fill absent fields."""
        return await self._answer(request, "mutate")

    async def _answer(self, request: Request, endpoint: str) -> Response:
        with self._traffic.request():
            try:
                length = _length(request)
                deadline = workers.deadline(request.query_params.get("timeout"))
                if length <= _INLINE_BYTES:
                    return await self._reviewed(request, endpoint, deadline)
                async with self._room.held(length, deadline):
                    return await self._reviewed(request, endpoint, deadline)
            except _Refused as refused:
                return self._error(refused.status, str(refused), close=True)
            except (reviews.BadReview, Late) as told:
                return self._error(told.status, str(told))
            except Exception as bug:  # the caller is to read 500, whatever it is
                return self._bug(bug, endpoint, None)

    async def _reviewed(self, request: Request, endpoint: str, deadline: float) -> Response:
        body = await _body(request)
        began = time.perf_counter()
        if len(body) <= _INLINE_BYTES:
            review = reviews.parse(body)
        else:
            review = await self._workers.run(deadline, reviews.parse, body)
        if endpoint == "validate" and admission.plans(review, self._context()):
            return await self._workers.run(deadline, self._judge, review, endpoint, began)
        return self._judge(review, endpoint, began)

    def _judge(self, review: reviews.Request, endpoint: str, began: float) -> Response:
        try:
            decide = admission.validate if endpoint == "validate" else admission.mutate
            response = decide(review, self._context())
            content = response.to_bytes()
        except Exception as bug:  # the same
            return self._bug(bug, endpoint, review)
        seconds = time.perf_counter() - began
        self._metrics.answered(
            endpoint,
            review.operation,
            review.kind,
            response.verdict,
            response.allowed,
            review.dry_run,
            seconds,
        )
        log.info(
            "admission",
            extra=fields(
                endpoint=endpoint, uid=review.uid, operation=review.operation, kind=review.kind,
                namespace=review.namespace, name=review.name, user=review.user,
                dry_run=review.dry_run or None, allowed=response.allowed, verdict=response.verdict,
                rule=response.rule, duration_ms=round(seconds * 1000, 3),
            ),
        )  # fmt: skip
        return Response(content, 200, self._headers(), "application/json")

    def _error(self, status: int, message: str, *, close: bool = False) -> Response:
        self._metrics.refused(status)
        log.warning("refused", extra=fields(status=status, reason=message))
        return Response(f"{message}\n", status, self._headers(close=close), "text/plain; charset=utf-8")

    def _bug(self, bug: Exception, endpoint: str, review: reviews.Request | None) -> Response:
        """Log where it happened; the exception's own text could quote the object."""
        frames = traceback.extract_tb(bug.__traceback__)
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        uid = review.uid if review is not None else None
        log.error("bug", extra=fields(endpoint=endpoint, uid=uid, error=type(bug).__name__, where=where))
        self._metrics.refused(500)
        return Response(
            f"berth's webhook has a bug; its log names the review {uid}\n",
            500,
            self._headers(),
            "text/plain; charset=utf-8",
        )

    def _headers(self, *, close: bool = False) -> dict[str, str]:
        return {"connection": "close"} if close or self._traffic.draining else {}


def create(admissions: Admissions) -> FastAPI:
    """Return the application of the HTTPS port."""
    app = FastAPI(title="berth admission", openapi_url=None, docs_url=None, redoc_url=None)
    # Nothing is injected and no answer is built from a model, so the plain route does, in half the time.
    app.add_route("/validate", admissions.validate, methods=["POST"])
    app.add_route("/mutate", admissions.mutate, methods=["POST"])
    return app


def _length(request: Request) -> int:
    """Return how large the body is going to be at most; refuse what is no review by its head alone."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise _Refused(415, f"the content type is to be application/json, not {kind[:80]!r}")
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        return LARGEST_BODY_BYTES
    if int(length) > LARGEST_BODY_BYTES:
        raise _Refused(413, f"a review of {length} bytes is larger than {LARGEST_BODY_BYTES}")
    return int(length)


async def _body(request: Request) -> bytes:
    """Read the body, bounded in size and time."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > LARGEST_BODY_BYTES:
                    raise _Refused(413, f"the review is larger than {LARGEST_BODY_BYTES} bytes")
                parts.append(part)
    except TimeoutError:
        raise _Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise _Refused(400, "the caller left before its body was whole") from None
    return b"".join(parts)
