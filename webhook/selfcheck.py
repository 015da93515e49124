"""A review sent to ourselves over TLS: only what answers this is ready for an API server's."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from webhook.certificates.tls import LiveTls

_SECONDS = 5.0
_UID = "00000000-0000-0000-0000-000000000000"
REVIEW = orjson.dumps(
    {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": _UID,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "self-check",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "system:berth-webhook"},
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "self-check"}},
            "oldObject": None,
            "dryRun": True,
            "options": None,
        },
    }
)


async def call_myself(host: str, port: int, name: str, tls: LiveTls) -> str:
    """Return why the call failed; an empty text where it came back as it should."""
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await _call(_reachable(host), port, name, tls.client())
    except (OSError, TimeoutError, ssl.SSLError, EOFError, ValueError) as problem:
        return f"{type(problem).__name__}: {problem}"
    response = answer.get("response") or {}
    return "" if response.get("uid") == _UID else "the answer is not for the review that was sent"


async def _call(host: str, port: int, name: str, context: ssl.SSLContext) -> dict[str, dict[str, str]]:
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    head = (
        f"POST /validate HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(REVIEW)}\r\nConnection: close\r\n\r\n"
    )
    try:
        writer.write(head.encode() + REVIEW)
        status = (await reader.readline()).split(b" ")
        while (await reader.readline()).strip():
            pass
        body = await reader.read()
    finally:
        writer.close()
    if len(status) < 2 or status[1] != b"200":
        raise ValueError(f"the answer was {b' '.join(status[1:2]).decode() or 'nothing'}")
    found: dict[str, dict[str, str]] = orjson.loads(body)
    return found


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
