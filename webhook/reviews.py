"""AdmissionReview `admission.k8s.io/v1`: what the API server asks, and the answers it understands.

A denial is 422 `Invalid` with a cause for each problem, because only for that reason kubectl lists causes as
fields. Its message stands alone too: Argo CD and Flux show nothing else, and often only the first line.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from berth import labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from berth.problems import Problem

API_VERSION = "admission.k8s.io/v1"
LONGEST_WARNING = 120
"""Characters: Kubernetes cuts at 256, and asks for 120."""
_WARNINGS_TOTAL = 4000
"""Characters of all warnings together; Kubernetes drops what exceeds 4,096."""
_LONGEST_MESSAGE = 8000
"""Characters of a denial's message: Events and terminals show less."""
_DEEPEST = 254
"""Levels of nesting of a review: as many as orjson writes. Kubernetes' own objects stay below 30."""
_MOST_PARTS = 1_000_000
"""Objects and lists of a review; etcd stores less than can hold so many, and reading more takes long."""
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")


class BadReview(Exception):
    """The body is no AdmissionReview that can be answered; `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """One question of the API server. `object` is None on DELETE, `old` on CREATE."""

    uid: str
    operation: str
    group: str
    version: str
    kind: str
    name: str
    namespace: str | None
    subresource: str
    user: str
    dry_run: bool
    object: Mapping[str, Any] | None = field(default=None, repr=False)
    old: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def stores(self) -> bool:
        """Whether a whole object is created or changed, not a part of it such as its status."""
        return self.operation in ("CREATE", "UPDATE") and not self.subresource

    @property
    def of_workspace(self) -> bool:
        """Whether it is about a Workspace."""
        return (self.group, self.kind) == (labels.GROUP, labels.KIND)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; `verdict` and `rule` are for logs, metrics and the audit trail."""

    request: Request
    verdict: str
    rule: str = ""
    problems: tuple[Problem, ...] = ()
    """Errors deny, warnings are passed on."""
    audit: Mapping[str, str] = field(default_factory=dict)
    patch: tuple[Mapping[str, Any], ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether no problem is an error."""
        return not self.errors

    @property
    def errors(self) -> list[Problem]:
        """The problems that deny."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[str]:
        """One line for each warning, as the API server passes them on."""
        found: list[str] = []
        for problem in self.problems:
            if problem.severity != "warning":
                continue
            text = _line(f"{problem.field}: {problem.message}" if problem.path else problem.message)
            if text in found:
                continue
            if sum(map(len, found)) + len(text) > _WARNINGS_TOTAL:
                break
            found.append(text)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The whole AdmissionReview, as JSON data."""
        response: dict[str, Any] = {"uid": self.request.uid, "allowed": self.allowed}
        if not self.allowed:
            response["status"] = _status(self.request, self.errors)
        if warnings := self.warnings:
            response["warnings"] = warnings
        response["auditAnnotations"] = {
            "verdict": self.verdict,
            **({"rule": self.rule} if self.rule else {}),
            **self.audit,
        }
        if self.allowed and self.patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(orjson.dumps(list(self.patch))).decode()
        return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}

    def to_bytes(self) -> bytes:
        """The whole AdmissionReview, as it goes over the wire."""
        return orjson.dumps(self.to_dict())


def parse(body: bytes) -> Request:
    """Read a review.

    Raises:
        BadReview: the body is no review of this version, or cannot be answered.
    """
    if _crowded(body):
        raise BadReview(f"the review holds more than {_MOST_PARTS:,} objects and lists")
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadReview(f"the body is no JSON: {str(error).partition(':')[0]}") from None
    if _too_deep(review, body):
        raise BadReview(f"the review is nested more than {_DEEPEST} levels deep")
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise BadReview("the body is no AdmissionReview")
    if review.get("apiVersion") != API_VERSION:
        raise BadReview(f"only {API_VERSION} is understood")
    request = review.get("request")
    if not isinstance(request, dict):
        raise BadReview("the review holds no request")
    return _read(request)


def _read(request: Mapping[str, Any]) -> Request:
    uid, operation, kind = request.get("uid"), request.get("operation"), request.get("kind")
    if not isinstance(uid, str) or not 0 < len(uid) <= 256:
        raise BadReview("request.uid is to be a text, because the answer repeats it")
    if operation not in _OPERATIONS:
        raise BadReview(f"request.operation is to be one of {', '.join(_OPERATIONS)}")
    if not isinstance(kind, dict) or not isinstance(kind.get("kind"), str) or not kind["kind"]:
        raise BadReview("request.kind.kind is to be a text")
    now, old = _object(request, "object"), _object(request, "oldObject")
    if operation in ("CREATE", "UPDATE") and now is None:
        raise BadReview(f"request.object is to be there on {operation}")
    if operation == "UPDATE" and old is None:
        raise BadReview("request.oldObject is to be there on UPDATE")
    metadata = (now or old or {}).get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    user = request.get("userInfo")
    return Request(
        uid=uid,
        operation=operation,
        group=_text(kind.get("group")),
        version=_text(kind.get("version")),
        kind=kind["kind"],
        name=_text(request.get("name")) or _text(named.get("name")) or _text(named.get("generateName")),
        namespace=_text(request.get("namespace")) or None,
        subresource=_text(request.get("subResource")),
        user=_text(user.get("username")) if isinstance(user, dict) else "",
        dry_run=request.get("dryRun") is True,
        object=now,
        old=old,
    )


def _object(request: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = request.get(key)
    if value is not None and not isinstance(value, dict):
        raise BadReview(f"request.{key} is to be an object")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _crowded(body: bytes) -> bool:
    """Whether brackets outside texts are too many; bodies that have not so many at all are not looked at.

    Where there are many texts as well, telling both apart would take as long as reading everything.
    """
    if body.count(b"{") + body.count(b"[") <= _MOST_PARTS:
        return False
    if body.count(b'"') > _MOST_PARTS // 2:
        return True
    bare = _TEXT.sub(b"", body)
    return bare.count(b"{") + bare.count(b"[") > _MOST_PARTS


def _too_deep(review: Any, body: bytes) -> bool:
    """Whether it nests too deep to be written again; bodies that cannot are not looked through."""
    if body.count(b"{") + body.count(b"[") <= _DEEPEST:
        return False
    try:
        orjson.dumps(review)
    except orjson.JSONEncodeError:
        return True
    return False


def _line(text: str) -> str:
    """One line without control characters, which would make Kubernetes drop the warning."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    plain = " ".join(text.split())
    return plain if len(plain) <= LONGEST_WARNING else plain[: LONGEST_WARNING - 1].rstrip() + "…"


def _status(request: Request, errors: Sequence[Problem]) -> dict[str, Any]:
    """The API server's Status of a denial."""
    first, name = errors[0], request.name or "without a name"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    message = f"{request.kind} {name} is refused: {first.field}: {first.message}{more}"
    if len(errors) > 1:
        message += "".join(f"\n* {problem.field}: {problem.message}" for problem in errors)
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    return {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": message,
        "details": {
            "group": request.group,
            "kind": request.kind,
            "name": request.name,
            "causes": [
                {"reason": "FieldValueInvalid", "field": problem.field, "message": problem.message}
                for problem in errors
            ],
        },
    }
